#include "host/engine_driver.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/attachment_rules.h"
#include "host/snapshot_keeper.h"

namespace keelback::host {
namespace {

// How long the destructor waits for killed workers.
constexpr auto kStopMax = std::chrono::seconds(2);

}  // namespace

EngineDriver::EngineDriver(EngineConfig config, MakeCrew make_crew)
    : engine_(std::move(config)), crew_(make_crew(engine_)) {
  engine_.set_crew(*crew_);
}

std::expected<void, StartError> EngineDriver::start() {
  std::expected<void, StartError> started;
  engine_.loop().run([&] {
    started = crew_->start();
    if (!started) return;
    engine_.keeper().take_found_sessions();
    engine_.post([this] { engine_.feed(core::Tick{}); });
  });
  started_ = started.has_value();
  return started;
}

EngineDriver::~EngineDriver() {
  CHECK(!engine_.loop().on_its_thread());
  if (started_) {
    // Every call gets its outcome from the core, every worker is killed.
    engine_.post([this] {
      engine_.feed(core::DrainRequested{Duration{0}});
      crew_->stop();
    });
    static_cast<void>(engine_.crew_gone.wait(kStopMax));
    engine_.store().close();
  }
  engine_.loop().run([this] {
    engine_.leave_loop();
    crew_->leave_loop();
  });
  engine_.loop().run([] {});  // what was behind it on the loop has had its turn, too
  engine_.calls().end_remaining();
}

void EngineDriver::prepare(CallRecord& record) {
  host::prepare(record);
  if (!record.call.attachments.empty()) prepare_attachments(record);
}

void EngineDriver::prepare_attachments(CallRecord& record) {
  const Call& call = record.call;
  record.attachment_fault = core::fault_of(call.attachments);
  record.attachment_bytes = core::bytes_of(call.attachments);
  record.attachment_kinds = core::kinds_of(call.attachments);
  record.quick_print = quick_print(record.fingerprint, call.attachments);
  bool all_of_it = !call.idempotency_key.empty();
  if (!all_of_it) {
    const Locked locked(engine_.lock);
    all_of_it = engine_.calls().is_suspect(record.quick_print);
  }
  record.fingerprint =
      all_of_it ? full_print(record.quick_print, call.attachments) : record.quick_print;
  record.attachments = std::make_shared<const Attachments>(std::move(record.call.attachments));
}

Outcome EngineDriver::call(Call call) {
  // The loop must go on for any call to end, so it cannot wait for one.
  CHECK(!engine_.loop().on_its_thread());
  CallRecord record(engine_.next_call(), std::move(call));
  record.blocking = true;
  prepare(record);
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    engine_.begin(record, event_of(record), effects);
  }
  engine_.perform(effects);
  await(record);
  return std::move(record.outcome);
}

void EngineDriver::await(CallRecord& record) {
  for (;;) {
    const std::uint32_t word = record.word.load(std::memory_order_acquire);
    if ((word & CallRecord::kRead) != 0) {
      crew_->read_for(record);
    } else if ((word & CallRecord::kDone) != 0) {
      return;
    } else {
      os::futex_wait(record.word, word);
    }
  }
}

CallId EngineDriver::enter(std::unique_ptr<CallRecord> record) {
  prepare(*record);
  const CallId id = record->id;
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    CallRecord& entered = *record.release();  // the call table's, until its Completion
    engine_.begin(entered, event_of(entered), effects);
  }
  engine_.perform(effects);
  return id;
}

CallId EngineDriver::submit(Call call, OnOutcome done) {
  auto record = std::make_unique<CallRecord>(engine_.next_call(), std::move(call));
  record->done = std::move(done);
  return enter(std::move(record));
}

CallId EngineDriver::stream(Call call, OnItem item, OnOutcome done) {
  auto record = std::make_unique<CallRecord>(engine_.next_call(), std::move(call));
  record->streaming = true;
  record->item = std::move(item);
  record->done = std::move(done);
  return enter(std::move(record));
}

void EngineDriver::grant(CallId call, std::uint32_t items) {
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    CallRecord* record = engine_.calls().find(call);
    if (record == nullptr || record->told || !record->streaming || items == 0) return;
    record->granted += std::min(items, UINT32_MAX - record->granted);
    crew_->grant(*record, items, effects);
    engine_.step(core::StreamGranted{call, items}, nullptr, effects);
    engine_.settle(effects);
  }
  engine_.perform(effects);
}

bool EngineDriver::cancel(CallId call) {
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    const CallRecord* record = engine_.calls().find(call);
    if (record == nullptr || record->told) return false;
    engine_.step(core::CallCancelled{call}, nullptr, effects);
    engine_.settle(effects);
  }
  engine_.perform(effects);
  return true;
}

std::optional<std::string> EngineDriver::dump(CallId call) {
  const Locked locked(engine_.lock);
  return engine_.calls().table().late_dumps.find(now(), call);
}

// ---- what operators see and do

PoolInfo EngineDriver::info() {
  PoolInfo info;
  info.store = engine_.store().status();
  {
    const Locked locked(engine_.lock);
    info.stats = engine_.pool().stats(now());
  }
  crew_->describe(info);
  return info;
}

std::vector<WorkerInfo> EngineDriver::workers() {
  std::vector<WorkerInfo> list;
  {
    const Locked locked(engine_.lock);
    for (core::WorkerView& view : engine_.pool().workers(now())) list.push_back({std::move(view)});
  }
  crew_->describe(list);
  return list;
}

SessionList EngineDriver::sessions(std::string_view after, std::size_t limit) {
  const Locked locked(engine_.lock);
  return engine_.pool().sessions(now(), after, limit);
}

std::vector<QuarantinedRequest> EngineDriver::quarantine() {
  const Locked locked(engine_.lock);
  return engine_.pool().quarantine(now());
}

bool EngineDriver::apply(const core::Event& event) {
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    if (!engine_.pool().knows(now(), event)) return false;
    engine_.step(event, nullptr, effects);
    engine_.settle(effects);
  }
  engine_.perform(effects);
  return true;
}

bool EngineDriver::adopt(store::Record record) { return engine_.keeper().adopt(std::move(record)); }

void EngineDriver::expect(const std::string& session, std::uint64_t birth) {
  const Locked locked(engine_.lock);
  engine_.expect_birth(session, birth);
}

bool EngineDriver::stop_expecting(const std::string& session) {
  const Locked locked(engine_.lock);
  return engine_.stop_expecting(session);
}

void EngineDriver::take(const std::string& session, std::uint64_t birth, const std::string& detail,
                        bool may_be_kept) {
  engine_.feed(core::SessionTaken{session, birth, detail, may_be_kept});
}

void EngineDriver::reload(std::move_only_function<void(std::string error)> done) {
  engine_.post([this, done = std::move(done)]() mutable { crew_->reload(std::move(done)); });
}

void EngineDriver::drain(Duration limit, std::move_only_function<void()> done) {
  engine_.drain(limit, std::move(done));
}

}  // namespace keelback::host
