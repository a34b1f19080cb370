#include "nodes/node_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/reasons.h"
#include "host/fingerprint.h"
#include "host/request_print.h"
#include "nodes/answers.h"
#include "nodes/cluster_info.h"
#include "nodes/shared_settings.h"
#include "os/clock.h"
#include "os/handover.h"

namespace keelback::nodes {
namespace {

using namespace std::chrono_literals;

// What the database has until this node gives up its last rows.
constexpr auto kLeaveMax = 2s;
// When a caller asks again whose session had to move.
constexpr auto kAskAgain = 100ms;
// Of an answer that may be committed or not.
constexpr const char* kNotKnown =
    "The call was done, but whether its session's state is stored is not known: the database did "
    "not say.";

// Nobody else can have an interest in it: it goes straight to the pool here.
bool is_local(const Call& call) { return call.session.empty() && call.idempotency_key.empty(); }

std::uint64_t print_of(const Call& call) {
  const std::uint64_t base = host::fingerprint(call.function, call.session, call.payload);
  if (call.attachments.empty()) return base;
  return host::full_print(host::quick_print(base, call.attachments), call.attachments);
}

Outcome plain(OutcomeKind kind, Effect effect, std::string message) {
  Outcome outcome;
  outcome.kind = kind;
  outcome.effect = effect;
  outcome.message = std::move(message);
  return outcome;
}

cluster::Over over_by(core::SessionGone::How how) {
  switch (how) {
    case core::SessionGone::How::kExpired:
      return cluster::Over::kExpired;
    case core::SessionGone::How::kLost:
      return cluster::Over::kLost;
    case core::SessionGone::How::kEnded:
      break;
  }
  return cluster::Over::kEnded;
}

std::string lost_to(const std::string& session, const std::string& owner) {
  if (owner.empty()) {
    return fmt::format("Session \"{}\" is not this node's any more, and nobody has it.", session);
  }
  return fmt::format("Session \"{}\" is not this node's any more: node \"{}\" has it.", session,
                     owner);
}

cluster::Config node_config(const NodeConfig& config) {
  const auto& cluster = config.settings.cluster;
  cluster::Config made;
  made.name = cluster.node;
  made.url = cluster.advertise;
  made.digest = config.digest;
  made.lease = cluster.lease;
  made.rules = rules_of(config.settings);
  made.settings = shared_text(config.settings);
  return made;
}

}  // namespace

NodeDriver::NodeDriver(NodeConfig config)
    : loop_(*config.loop),
      settings_(config.settings),
      default_deadline_(config.settings.calls.deadline),
      deadline_max_(config.settings.calls.deadline_max),
      logger_(config.logger),
      store_(config.store),
      hops_(std::move(config.hops)),
      inner_(std::move(config.inner)),
      nested_(std::make_shared<NestedCalls>(*this)),
      port_(inner_->session_port()) {
  CHECK(port_ != nullptr);
  loop_.run([&] {
    member_ = std::make_unique<Member>(loop_.context(), node_config(config), config.seed,
                                       std::move(config.database), logger_,
                                       [this](cluster::Action& action) { perform(action); });
    store_->set_commits_each_call(rules_of(settings_).commits_each_call);
    store_->attach([this](cluster::Event event) { member_->handle(std::move(event)); },
                   [this](const std::string& session, std::uint64_t birth,
                          const cluster::Settle& settle) { settled(session, birth, settle); });
    port_->watch([this](const core::SessionGone& gone) { session_gone(gone); });
    member_->handle(cluster::Tick{});
  });
  port_->route_nested(nested_);
}

NodeDriver::~NodeDriver() {
  CHECK(!loop_.on_its_thread());
  nested_->close();
  inner_.reset();  // its calls end, and its last commits
  loop_.run([this] {
    alive_.end();
    std::vector<CallId> left;
    for (const auto& [id, ticket] : tickets_) left.push_back(id);
    for (const CallId id : left) {
      const bool maybe = tickets_.at(id).away != 0 || tickets_.at(id).answer;
      finish(id, plain(OutcomeKind::kShuttingDown, maybe ? Effect::kMaybe : Effect::kNone,
                       "The node shut down."));
    }
    hops_.reset();
    member_.reset();
  });
}

// ---- calls come

Outcome NodeDriver::call(Call call) {
  if (is_local(call)) return inner_->call(std::move(call));
  CHECK(!loop_.on_its_thread());
  os::Handover<Outcome> over;
  submit(std::move(call), [&](Outcome&& outcome) { over.put(std::move(outcome)); });
  return over.take();
}

CallId NodeDriver::submit(Call call, host::OnOutcome done) {
  if (is_local(call)) {
    return inner_->submit(std::move(call), std::move(done));
  }
  return enter(std::move(call), nullptr, std::move(done), false);
}

CallId NodeDriver::stream(Call call, host::OnItem item, host::OnOutcome done) {
  if (is_local(call)) {
    return inner_->stream(std::move(call), std::move(item), std::move(done));
  }
  return enter(std::move(call), std::move(item), std::move(done), false);
}

CallId NodeDriver::take_hop(std::string_view sender, Call call, host::OnItem item,
                            host::OnOutcome done) {
  if (is_local(call))
    return inner_->take_hop(sender, std::move(call), std::move(item), std::move(done));
  return enter(std::move(call), std::move(item), std::move(done), true);
}

void NodeDriver::end_session(std::string session, host::OnOutcome done) {
  enter_end(std::move(session), std::move(done), false);
}

void NodeDriver::take_hop_end(std::string_view, std::string session, host::OnOutcome done) {
  enter_end(std::move(session), std::move(done), true);
}

void NodeDriver::enter_end(std::string session, host::OnOutcome done, bool hop) {
  Ticket ticket;
  ticket.call.session = std::move(session);
  ticket.done = std::move(done);
  ticket.deadline = os::monotonic_now() + limit_of(ticket.call);
  ticket.hop = hop;
  ticket.ends = true;
  enter(std::move(ticket));
}

CallId NodeDriver::enter(Call call, host::OnItem item, host::OnOutcome done, bool hop) {
  Ticket ticket;
  ticket.call = std::move(call);
  ticket.streaming = static_cast<bool>(item);
  ticket.item = std::move(item);
  ticket.done = std::move(done);
  ticket.own_deadline = ticket.call.deadline.has_value();
  ticket.deadline = os::monotonic_now() + limit_of(ticket.call);
  ticket.hop = hop;
  return enter(std::move(ticket));
}

CallId NodeDriver::enter(Ticket ticket) {
  CallId id;
  {
    const std::lock_guard lock(mutex_);
    id = CallId{++last_call_};
    open_.insert(id);
  }
  boost::asio::post(loop_.context(), alive_.guard([this, id, ticket = std::move(ticket)]() mutable {
    come(id, std::move(ticket));
  }));
  return id;
}

void NodeDriver::come(CallId id, Ticket ticket) {
  Ticket& here = tickets_.emplace(id, std::move(ticket)).first->second;
  here.limit = std::make_unique<boost::asio::steady_timer>(loop_.context());
  here.limit->expires_at(std::chrono::steady_clock::time_point(here.deadline.time_since_epoch()));
  here.limit->async_wait(alive_.guard([this, id](const boost::system::error_code& error) {
    if (!error) too_late(id);
  }));
  ask_who(id, here);
}

void NodeDriver::ask_who(CallId id, Ticket& ticket) {
  const Call& call = ticket.call;
  ticket.asked = ++last_asked_;
  asked_[ticket.asked] = id;
  if (call.session.empty()) {
    return member_->handle(cluster::KeyedCallCame{ticket.asked, call.idempotency_key,
                                                  print_of(call), call.idempotent, ticket.hop});
  }
  cluster::CallCame came;
  came.ticket = ticket.asked;
  came.session = call.session;
  came.mode = call.affinity.value_or(settings_.sessions.mode);
  came.open = call.open;
  came.hop = ticket.hop;
  came.ends = ticket.ends;
  came.key = call.idempotency_key;
  if (!came.key.empty()) came.fingerprint = print_of(call);
  member_->handle(std::move(came));
}

void NodeDriver::too_late(CallId id) {
  const Ticket* ticket = find(id);
  if (ticket == nullptr || ticket->local || ticket->answer) return;  // the inner driver has its own
  if (ticket->away != 0) return hops_->cancel(ticket->away);
  give_up(id, plain(OutcomeKind::kTimeout, ticket->ends ? Effect::kMaybe : Effect::kNone,
                    "The deadline passed before it was known which node owns the session."));
}

// Nobody has the call yet.
void NodeDriver::give_up(CallId id, Outcome&& outcome) {
  member_->handle(cluster::TicketGone{find(id)->asked});
  finish(id, std::move(outcome));
}

CallId NodeDriver::call_of(cluster::TicketId asked) const {
  const auto found = asked_.find(asked);
  return found == asked_.end() ? CallId{} : found->second;
}

NodeDriver::Ticket* NodeDriver::find(CallId id) {
  const auto found = tickets_.find(id);
  return found == tickets_.end() ? nullptr : &found->second;
}

Duration NodeDriver::limit_of(const Call& call) {
  const auto application = inner_->application();
  const FunctionInfo* function = application ? application->find(call.function) : nullptr;
  Duration limit = default_deadline_.load(std::memory_order_relaxed);
  if (function != nullptr && function->timeout) limit = *function->timeout;
  if (call.deadline) limit = std::min<Duration>(limit, *call.deadline);
  return std::min(limit, deadline_max_.load(std::memory_order_relaxed));
}

Duration NodeDriver::time_left(const Ticket& ticket) {
  return std::max<Duration>(ticket.deadline - os::monotonic_now(), 1ms);
}

// ---- calls end

void NodeDriver::finish(CallId id, Outcome&& outcome) {
  const auto found = tickets_.find(id);
  if (found == tickets_.end()) return;
  host::OnOutcome done = std::move(found->second.done);
  const CallId local = found->second.local;
  asked_.erase(found->second.asked);
  tickets_.erase(found);
  outcome.call = id.value;
  {
    const std::lock_guard lock(mutex_);
    open_.erase(id);
    if (local && outcome.kind == OutcomeKind::kTimeout) {
      late_.emplace_back(id, local);
      if (late_.size() > kLateMax) late_.pop_front();
    }
  }
  done(std::move(outcome));
}

void NodeDriver::grant(CallId call, std::uint32_t items) {
  if (call.value < kFirstCall) return inner_->grant(call, items);
  boost::asio::post(loop_.context(), alive_.guard([this, id = call, items] {
    Ticket* ticket = find(id);
    if (ticket == nullptr) return;
    if (ticket->local) return inner_->grant(ticket->local, items);
    if (ticket->away != 0) return hops_->grant(ticket->away, items);
    ticket->granted += items;
  }));
}

bool NodeDriver::cancel(CallId call) {
  if (call.value < kFirstCall) return inner_->cancel(call);
  {
    const std::lock_guard lock(mutex_);
    if (!open_.contains(call)) return false;
  }
  boost::asio::post(loop_.context(), alive_.guard([this, call] { leave(call); }));
  return true;
}

void NodeDriver::leave(CallId id) {
  const Ticket* ticket = find(id);
  if (ticket == nullptr || ticket->answer) return;
  if (ticket->local) {
    static_cast<void>(inner_->cancel(ticket->local));
    return;
  }
  if (ticket->away != 0) return hops_->cancel(ticket->away);
  give_up(id, plain(OutcomeKind::kCancelled, Effect::kNone,
                    "The call was cancelled before it was known which node owns the session."));
}

std::optional<std::string> NodeDriver::dump(CallId call) {
  if (call.value < kFirstCall) return inner_->dump(call);
  CallId local;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(late_, call, &std::pair<CallId, CallId>::first);
    if (found != late_.end()) local = found->second;
  }
  return local ? inner_->dump(local) : std::nullopt;
}

// ---- what the node decides

void NodeDriver::perform(cluster::Action& action) {
  std::visit([this](auto& one) { on(one); }, action);
}

host::OnItem NodeDriver::passes_on(CallId id) {
  return [this, id](std::string&& item) {
    if (Ticket* ticket = find(id)) ticket->item(std::move(item));
  };
}

void NodeDriver::on(cluster::Admit& action) {
  const CallId id = call_of(action.ticket);
  Ticket* ticket = find(id);
  if (ticket == nullptr) return;
  asked_.erase(action.ticket);
  if (!action.session.empty()) {
    const auto held = held_.find(action.session);
    if (held == held_.end() || held->second.birth != action.birth) return ask_who(id, *ticket);
    ++held->second.running;
  }
  if (ticket->ends) return end_here(id, action.session, action.birth);
  ticket->birth = action.birth;
  ticket->limit->cancel();
  Call call = std::move(ticket->call);
  ticket->call = {.session = call.session, .idempotency_key = call.idempotency_key};
  if (ticket->own_deadline) call.deadline = time_left(*ticket);
  auto done = [this, id](Outcome&& outcome) { ran_here(id, std::move(outcome)); };
  ticket->local = ticket->streaming
                      ? inner_->stream(std::move(call), passes_on(id), std::move(done))
                      : inner_->submit(std::move(call), std::move(done));
  if (ticket->granted > 0) inner_->grant(ticket->local, std::exchange(ticket->granted, 0));
}

// A session that no call has opened yet is not there, as on one machine.
void NodeDriver::end_here(CallId id, const std::string& session, std::uint64_t birth) {
  const bool found = inner_->end_session_here(session);
  release(session, birth);
  finish(id, host::session_end(found, session));
}

void NodeDriver::on(cluster::Forward& action) {
  const CallId id = call_of(action.ticket);
  Ticket* ticket = find(id);
  if (ticket == nullptr) return;
  auto ended = alive_.guard([this, id](Hops::Ended end) { came_back(id, std::move(end)); });
  if (ticket->ends) {
    ticket->away =
        hops_->end_session(action.url, ticket->call.session, time_left(*ticket), std::move(ended));
    return;
  }
  Call copy = ticket->call;  // it may have to go to another node yet
  copy.parent = 0;           // the number means nothing there
  // A stream may be long: its owner's limits hold, unless the caller has set one.
  if (!ticket->streaming || ticket->own_deadline) copy.deadline = time_left(*ticket);
  if (ticket->streaming && !ticket->own_deadline) ticket->limit->cancel();
  ticket->away = hops_->send(action.url, copy, ticket->streaming ? passes_on(id) : host::OnItem{},
                             std::move(ended));
  if (ticket->granted > 0) hops_->grant(ticket->away, std::exchange(ticket->granted, 0));
}

void NodeDriver::on(cluster::GiveUpHop& action) {
  const Ticket* ticket = find(call_of(action.ticket));
  if (ticket != nullptr && ticket->away != 0) hops_->give_up(ticket->away);
}

void NodeDriver::came_back(CallId id, Hops::Ended&& ended) {
  Ticket* ticket = find(id);
  if (ticket == nullptr) return;
  ticket->away = 0;
  if (ended.outcome) {
    member_->handle(cluster::TicketGone{ticket->asked});
    return finish(id, std::move(*ended.outcome));
  }
  member_->handle(cluster::HopFailed{ticket->asked, ended.end, std::move(ended.reason)});
}

void NodeDriver::on(cluster::Replay& action) {
  finish(call_of(action.ticket), outcome_of(std::move(action.answer)));
}

void NodeDriver::on(cluster::Refuse& action) {
  Outcome outcome = plain(action.kind, action.effect, std::move(action.message));
  outcome.retry_after = action.retry_after;
  outcome.key_reused = action.key_reused;
  finish(call_of(action.ticket), std::move(outcome));
}

void NodeDriver::on(cluster::Ended& action) {
  const CallId id = call_of(action.ticket);
  const Ticket* ticket = find(id);
  if (ticket != nullptr) finish(id, host::session_end(action.found, ticket->call.session));
}

void NodeDriver::on(cluster::Misdirected& action) {
  Outcome outcome =
      plain(OutcomeKind::kNotReady, Effect::kNone, "This node does not own the session.");
  outcome.reason = kNotOwner;
  finish(call_of(action.ticket), std::move(outcome));
}

void NodeDriver::on(cluster::Adopt& action) {
  port_->take(action.session, 0, lost_to(action.session, {}), false);
  Held& held = held_[action.session];
  held = {.birth = action.birth, .expected = !action.state, .opening = action.state.has_value()};
  if (!action.state) return port_->expect(action.session, action.birth);
  store_->give(action.birth, *action.state);
  store::Record record;
  record.session = action.session;
  record.birth = action.birth;
  record.epoch = action.epoch - 1;  // its next home is this one
  record.number = 1;
  record.mode = action.mode;
  const auto ago = [now = os::unix_ms()](Duration time) {
    return now - std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  };
  record.opened_ms = ago(action.age);
  record.used_ms = ago(action.idle);
  record.answer.key = std::move(action.answer.key);
  record.answer.fingerprint = action.answer.fingerprint;
  record.answer.kind = action.answer.kind;
  record.answer.payload = std::move(action.answer.payload);
  record.answer.type = std::move(action.answer.type);
  record.answer.message = std::move(action.answer.error);
  record.answer.traceback = std::move(action.answer.traceback);
  if (port_->adopt(std::move(record))) return;
  store_->forget(action.birth);
  held_.erase(action.session);
  member_->handle(cluster::SessionOver{action.session, action.birth, cluster::Over::kMoved});
}

void NodeDriver::on(cluster::Settle& action) {
  if (store_->settle(action)) return;
  const auto vouched = vouching_.find(action.commit);
  if (vouched == vouching_.end()) return;
  const CallId id = vouched->second;
  vouching_.erase(vouched);
  Ticket* ticket = find(id);
  if (ticket == nullptr) return;
  Outcome outcome = std::move(*ticket->answer);
  if (action.how == cluster::Settle::How::kLost && !ticket->call.session.empty()) {
    const Effect effect = outcome.effect;
    outcome = plain(OutcomeKind::kSessionLost, effect, lost_to(ticket->call.session, action.owner));
  } else if (action.how == cluster::Settle::How::kUnknown) {
    outcome = plain(OutcomeKind::kTimeout, Effect::kMaybe, kNotKnown);
  }
  finish(id, std::move(outcome));
}

void NodeDriver::on(cluster::ForgetSession& action) {
  if (const auto held = held_.find(action.session);
      held != held_.end() && held->second.birth == action.birth) {
    static_cast<void>(port_->stop_expecting(action.session));
    held_.erase(held);
  }
  take(action.session, action.birth, action.reason, action.may_be_kept);
}

// The pool drops the session. Of the calls that wait in it nothing ran.
void NodeDriver::take(const std::string& session, std::uint64_t birth, const std::string& detail,
                      bool may_be_kept) {
  for (auto& [id, ticket] : tickets_) {
    if (ticket.birth == birth && ticket.call.session == session) ticket.forgotten = true;
  }
  port_->take(session, birth, detail, may_be_kept);
  store_->forget(birth);
}

void NodeDriver::on(cluster::ObeySettings& action) {
  obey(action.settings.text, settings_);
  inner_->configure(settings_);
  store_->set_commits_each_call(rules_of(settings_).commits_each_call);
  member_->handle(cluster::RulesChanged{rules_of(settings_)});
}

void NodeDriver::on(cluster::Left&) { have_left(); }

void NodeDriver::have_left() {
  leave_limit_.reset();
  for (auto& done : std::exchange(on_left_, {})) done();
}

// ---- what the pool here did

void NodeDriver::ran_here(CallId id, Outcome&& outcome) {
  Ticket* ticket = find(id);
  if (ticket == nullptr) return;
  if (ticket->call.session.empty()) {  // it has a key
    std::optional<cluster::Answer> answer;
    if (outcome.effect != Effect::kNone) answer = answer_of(outcome);
    const cluster::CommitId commit = store_->next_id();
    vouching_[commit] = id;
    ticket->answer = std::move(outcome);
    return member_->handle(
        cluster::KeyedCallEnded{commit, ticket->call.idempotency_key, std::move(answer)});
  }
  if (ticket->forgotten && outcome.effect == Effect::kNone) {
    // Nothing ran, and nothing is lost: another node may have the session.
    outcome = plain(OutcomeKind::kNotReady, Effect::kNone,
                    "The session left this node while the call waited.");
    outcome.retry_after = kAskAgain;
  }
  const std::string session = ticket->call.session;
  const std::uint64_t birth = ticket->birth;
  const auto found = held_.find(session);
  Held* held = found == held_.end() || found->second.birth != birth ? nullptr : &found->second;
  const bool answered = outcome.kind == OutcomeKind::kOk || outcome.kind == OutcomeKind::kError;
  const bool committed = held != nullptr && std::exchange(held->committed, false);
  if (answered && outcome.effect != Effect::kNone && !committed) {
    const cluster::CommitId commit = store_->next_id();
    vouching_[commit] = id;
    ticket->answer = std::move(outcome);
    member_->handle(cluster::VouchWanted{commit, session, birth});
  } else {
    finish(id, std::move(outcome));
  }
  if (held != nullptr) release(session, birth);
}

// A call of the session has left the pool.
void NodeDriver::release(const std::string& session, std::uint64_t birth) {
  const auto found = held_.find(session);
  if (found == held_.end() || found->second.birth != birth) return;
  Held& held = found->second;
  --held.running;
  if (std::exchange(held.opening, false)) member_->handle(cluster::SessionOpened{session, birth});
  if (!held.expected) return;
  if (!port_->stop_expecting(session)) {
    held.expected = false;
  } else if (held.running > 0) {
    port_->expect(session, birth);
  } else {  // every call of it was refused
    held_.erase(found);
    member_->handle(cluster::SessionOver{session, birth, cluster::Over::kMoved});
  }
}

void NodeDriver::settled(const std::string& session, std::uint64_t birth,
                         const cluster::Settle& settle) {
  const auto held = held_.find(session);
  if (settle.how == cluster::Settle::How::kKept) {
    if (held != held_.end() && held->second.birth == birth) held->second.committed = true;
    return;
  }
  if (settle.how == cluster::Settle::How::kLost) {
    return take(session, birth, lost_to(session, settle.owner), false);
  }
  take(session, birth, kNotKnown, true);
}

void NodeDriver::session_gone(const core::SessionGone& gone) {
  const auto held = held_.find(gone.session);
  if (held == held_.end() || held->second.birth != gone.birth) return;
  if (held->second.opening) member_->handle(cluster::SessionOpened{gone.session, gone.birth});
  held_.erase(gone.session);
  member_->handle(cluster::SessionOver{gone.session, gone.birth, over_by(gone.how)});
}

// ---- operators

void NodeDriver::configure(const Settings& settings) {
  inner_->configure(settings);
  default_deadline_.store(settings.calls.deadline, std::memory_order_relaxed);
  deadline_max_.store(settings.calls.deadline_max, std::memory_order_relaxed);
  boost::asio::post(loop_.context(), alive_.guard([this, settings] {
    const std::string before = shared_text(settings_);
    settings_ = settings;
    if (shared_text(settings_) == before) return;
    member_->handle(cluster::SettingsChanged{shared_text(settings_)});
  }));
}

void NodeDriver::drain(Duration limit, std::move_only_function<void()> done) {
  boost::asio::post(loop_.context(), alive_.guard([this, limit, done = std::move(done)]() mutable {
    store_->set_draining();
    member_->handle(cluster::DrainRequested{});
    inner_->drain(limit, [this, done = std::move(done)]() mutable {
      on_left_.push_back(std::move(done));
      leave_limit_ = std::make_unique<boost::asio::steady_timer>(loop_.context(), kLeaveMax);
      leave_limit_->async_wait(alive_.guard([this](const boost::system::error_code& error) {
        if (!error) have_left();
      }));
      member_->handle(cluster::Drained{});
    });
  }));
}

cluster::Status NodeDriver::cluster_status() {
  cluster::Status status;
  loop_.run([&] { status = member_->status(); });
  return status;
}

std::optional<host::ClusterInfo> NodeDriver::cluster() { return info_of(cluster_status()); }

}  // namespace keelback::nodes
