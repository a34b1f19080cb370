#include "fakeworker/worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "fakeworker/alone.h"
#include "wire/process.h"

namespace keelback::fakeworker {
namespace {

void pause_ms(std::uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

[[noreturn]] void hang() {
  while (true) ::pause();
}

std::string_view name_of(Step step) {
  switch (step) {
    case Step::kConnect:
      return "connect";
    case Step::kHello:
      return "hello";
    case Step::kSetup:
      return "setup";
  }
  return "?";
}

// Signals are the main thread's: every other is born with all of them blocked. Throws
// std::system_error where there can be no more threads.
template <class Run>
void start_thread(Run run) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread(std::move(run)).detach();
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

Worker::Worker(std::string app, int data_fd, int control_fd, int marks_fd)
    : app_(std::move(app)),
      marks_(marks_fd),
      channel_(data_fd, [this] { supervisor_gone(); }),
      control_fd_(control_fd) {}

void Worker::supervisor_gone() {
  if (script_.term_immune) hang();
  ::_exit(1);
}

// ---- starting

void Worker::misbehave_at(Step step) {
  if (script_.exit_at && script_.exit_at->step == step) ::_exit(script_.exit_at->code);
  if (script_.hang_at == step) hang();
  if (script_.fail == step) {
    start_failed(name_of(step), "RuntimeError", "the script says that this step fails");
  }
}

void Worker::start_failed(std::string_view step, std::string_view type, std::string_view message) {
  const Json json = {{"step", step},
                     {"type", type},
                     {"message", message},
                     {"traceback", std::string(type) + ": " + std::string(message) + "\n"}};
  const std::string body = json.dump();
  std::string head;
  wire::append_payload_head(head, wire::Type::kStartFailed, 0, body.size());
  channel_.send(head, body);
  ::_exit(1);
}

void Worker::send_hello() {
  Json functions = Json::array();
  for (const Function& function : standard_functions()) functions.push_back(describe(function));
  const Json hello = {{"runtime", "fake 1"},
                      {"pid", ::getpid()},
                      {"app", app_.empty() ? "standard" : app_},
                      {"functions", std::move(functions)},
                      {"health", script_.unhealthy_after.has_value()}};
  const std::string body = hello.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string head;
  wire::append_payload_head(head, wire::Type::kHello, 0, body.size());
  channel_.send(head, body);
}

void Worker::start() {
  const auto script = parse_script(app_);
  if (script) script_ = *script;
  chaos_.obey(script_);
  misbehave_at(Step::kConnect);
  std::string bytes;
  wire::append_connect(bytes, script_.bad_version ? 99 : wire::kVersion);
  channel_.send(bytes);
  if (!script) start_failed("hello", "ValueError", script.error());
  pause_ms(script_.import_ms);
  misbehave_at(Step::kHello);
  send_hello();
  pause_ms(script_.setup_ms);
  misbehave_at(Step::kSetup);
  bytes.clear();
  wire::append_ready(bytes);
  channel_.send(bytes);
}

void Worker::run() {
  marks_.install_signals();
  start();
  start_thread([this] { serve_control(); });
  while (true) handle(channel_.next());
}

// ---- control

void Worker::serve_control() {
  wire::Decoder decoder(wire::Link::kWorkerControl, wire::kPacketMax);
  std::string packet(wire::kPacketMax, '\0');
  while (true) {
    const ssize_t got = ::recv(control_fd_, packet.data(), packet.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      pollfd waiting{.fd = control_fd_, .events = POLLIN, .revents = 0};
      ::poll(&waiting, 1, -1);
      continue;
    }
    if (got <= 0) return;  // the data socket and the lifeline say so too
    decoder.feed({packet.data(), static_cast<std::size_t>(got)});
    while (true) {
      const auto frame = decoder.next();
      if (!frame) return;
      if (!*frame) break;
      // What Python would need the interpreter for.
      const std::lock_guard lock(marks_.interpreter());
      if (!handle_control(**frame)) return;
    }
  }
}

bool Worker::handle_control(const wire::Frame& frame) {
  if (frame.type() == wire::Type::kCancel) {
    marks_.wake();
    shared_.cancel(frame.call());
  } else if (frame.type() == wire::Type::kInterrupt) {
    shared_.interrupt(frame.call());
  } else if (const auto token = wire::decode_ping(frame)) {
    if (!frame.loop() || shared_.none()) return send_pong(*token, frame.loop());
    loop_.post([this, token = *token] { send_pong(token, /*loop=*/true); });
  }
  return true;
}

bool Worker::send_pong(std::uint64_t token, bool loop) {
  std::string pong;
  wire::append_pong(pong, {.token = token, .running = marks_.running()}, loop);
  return ::send(control_fd_, pong.data(), pong.size(), MSG_NOSIGNAL) >= 0;
}

// ---- between calls, and beside shared ones

void Worker::handle(const Received& received) {
  const wire::Type type = received.header.type;
  if (!carried_.empty() && type != wire::Type::kAttach && type != wire::Type::kCall) {
    supervisor_gone();  // ATTACH frames and their CALL come in a row
  }
  const auto decoded = [this](auto message) {
    if (!message) supervisor_gone();
    return *message;
  };
  switch (type) {
    case wire::Type::kCall:
      return call(decoded(wire::decode_call(received.frame())));
    case wire::Type::kAttach:
      return attach(received);
    case wire::Type::kBatch:
      return batch(received.header.call, decoded(wire::decode_batch(received.frame())));
    case wire::Type::kSlab:
      return take_slab(received);
    case wire::Type::kSessionEnd: {
      const auto message = decoded(wire::decode_session_end(received.frame()));
      if (shared_.uses(sessions_.find(message.session, message.birth))) supervisor_gone();
      return sessions_.end(message);
    }
    case wire::Type::kSave:
      return save(decoded(wire::decode_save(received.frame())));
    case wire::Type::kRestore:
      return sessions_.give(received.header.call, decoded(wire::decode_restore(received.frame())));
    case wire::Type::kCheck: {
      std::string answer;
      const bool healthy = !script_.unhealthy_after || replies_ < *script_.unhealthy_after;
      wire::append_checked(answer, {healthy, healthy ? "" : "enough calls were answered"});
      return channel_.send(answer);
    }
    case wire::Type::kCredit:  // of a stream that is over, it means nothing
      return shared_.give(received.header.call, decoded(wire::decode_credit(received.frame())));
    case wire::Type::kOutcome: {  // of a call that is over, it means nothing
      const auto outcome = decoded(wire::decode_outcome(received.frame()));
      return shared_.tell(outcome.parent, {outcome.request, outcome.ok, std::string(outcome.json)});
    }
    case wire::Type::kShutdown:
      if (!shared_.none()) supervisor_gone();
      if (!script_.ignore_shutdown) ::_exit(0);
      return;
    default:
      return;
  }
}

void Worker::attach(const Received& received) {
  const auto message = wire::decode_attachment(received.frame());
  auto carried = message ? attachments_.read(*message) : std::nullopt;
  if (!carried || carried_.size() == wire::kAttachmentsMax) supervisor_gone();
  if (carried->name.empty()) carried->name = std::to_string(carried_.size());
  carried_.push_back(std::move(*carried));
}

void Worker::take_slab(const Received& received) {
  const auto message = wire::decode_slab(received.frame());
  if (!message) supervisor_gone();
  if (message->op == wire::SlabOp::kGone) {
    if (!attachments_.unmap(message->slab)) supervisor_gone();
  } else if (message->op == wire::SlabOp::kComing) {
    channel_.next_of(wire::Type::kSlab);
    if (!attachments_.map(*message, channel_.take_fd())) supervisor_gone();
  }
}

void Worker::save(const wire::SaveMessage& message) {
  const SessionPtr session = sessions_.find(message.session, message.birth);
  if (shared_.uses(session)) supervisor_gone();
  const State state = session != nullptr && session->epoch == message.epoch
                          ? session->state(marks_.snapshot_max())
                          : State{.bytes = "it is not open here in this epoch"};
  std::string bytes;
  wire::append_snapshot(bytes, {.birth = message.birth,
                                .epoch = message.epoch,
                                .format = state.format,
                                .session = message.session,
                                .state = state.bytes});
  channel_.send(bytes);
}

// ---- a call

void Worker::call(const wire::CallMessage& message) {
  // A call that runs alone comes when nothing else runs.
  if (message.row == 0 && !shared_.none()) supervisor_gone();
  auto asked = prepare(message);
  if (!asked) return refuse(message.call, message.row, std::move(asked.error()));
  if (message.row == 0) return run_alone(std::move(*asked));
  share(std::move(*asked));
}

std::expected<Asked, Raised> Worker::prepare(const wire::CallMessage& message) {
  Asked asked{.call = message.call,
              .row = message.row,
              .function = find_function(message.function),
              .stream = message.stream,
              .carried = std::exchange(carried_, {})};
  if (!message.attached) asked.carried.clear();
  auto session = sessions_.of(message);
  if (!session) return std::unexpected(std::move(session.error()));
  asked.session = std::move(*session);
  asked.saves = message.saves && asked.session != nullptr;
  if (asked.function == nullptr) {
    return std::unexpected(Raised{wire::ErrorKind::kUnknownFunction, "LookupError",
                                  "there is no function '" + std::string(message.function) + "'"});
  }
  auto bound = bind(*asked.function, message.payload);
  if (auto* wrong = std::get_if<Raised>(&bound)) return std::unexpected(std::move(*wrong));
  asked.arguments = std::move(std::get<std::vector<Json>>(bound));
  return asked;
}

void Worker::run_alone(Asked asked) {
  marks_.rewind_dump();  // the last call's dump could be read until now
  AloneCall running(place(), std::move(asked));
  const std::uint64_t call = running.asked.call;
  if (!begin(running.asked)) return refuse(call, 0, cancelled_before_start());
  std::optional<Turn> turn;
  if (running.asked.function->async) turn.emplace(loop_);
  Answer answer = run_function(running);
  marks_.end(0, call);
  turn.reset();
  std::vector<Out> frames;
  attach_to(running, answer, frames);
  if (std::string notes = attachments_.notes(); !notes.empty()) {
    frames.push_back({std::move(notes), {}});
  }
  const bool unclean = running.unclean || unclean_by_script();
  Out last =
      last_frame(running, std::move(answer), wire::reply_flags(unclean, running.interrupted));
  reply(call, std::move(frames), std::move(last));
}

void Worker::share(Asked asked) {
  for (const Carried& each : asked.carried) {
    if (each.slab != 0) supervisor_gone();
  }
  if (shared_.none()) marks_.rewind_dump();
  const auto running = std::make_shared<SharedCall>(place(), std::move(asked));
  if (!shared_.add(running)) supervisor_gone();
  try {
    start_thread([this, running] { run_shared(*running); });
  } catch (const std::system_error&) {
    shared_.remove(*running);
    refuse(running->asked.call, running->asked.row,
           {wire::ErrorKind::kError, "RuntimeError", "can't start new thread"});
  }
}

// ---- a batch

wire::CallMessage Worker::next_of_batch(Received& received) {
  received = channel_.next();
  while (received.header.type == wire::Type::kAttach) {
    attach(received);
    received = channel_.next();
  }
  const auto message = wire::decode_call(received.frame());
  if (!message || message->row == 0 || !message->session.empty()) supervisor_gone();
  for (const Carried& each : carried_) {
    if (each.slab != 0) supervisor_gone();
  }
  return *message;
}

void Worker::batch(std::uint64_t batch, std::uint32_t calls) {
  if (!shared_.none()) supervisor_gone();
  std::vector<Asked> asked;
  std::set<std::uint16_t> rows;
  std::set<std::uint64_t> ids;
  for (std::uint32_t i = 0; i < calls; ++i) {
    Received received;
    const wire::CallMessage message = next_of_batch(received);
    if (!rows.insert(message.row).second || !ids.insert(message.call).second) supervisor_gone();
    auto prepared = prepare(message);
    if (!prepared) {
      refuse(message.call, message.row, std::move(prepared.error()));
    } else if (!asked.empty() && asked.front().function != prepared->function) {
      supervisor_gone();
    } else {
      asked.push_back(std::move(*prepared));
    }
  }
  if (!ids.contains(batch)) supervisor_gone();
  if (asked.empty()) return;
  marks_.rewind_dump();
  if (asked.front().function->batch > 0) return run_together(batch, std::move(asked));
  // Calls have waited while the application was reloaded.
  for (Asked& each : asked) run_one_of_batch(std::move(each));
}

void Worker::run_together(std::uint64_t batch, std::vector<Asked> asked) {
  std::vector<Asked> begun;
  for (Asked& each : asked) {
    if (begin(each)) {
      begun.push_back(std::move(each));
    } else {
      refuse(each.call, each.row, cancelled_before_start());
    }
  }
  if (begun.empty()) return;
  BatchRun running(place(), batch, std::move(begun));
  const Function& function = *running.asked.function;
  if (!marks_.start(0, batch, function.name)) supervisor_gone();  // nobody cancels a batch
  std::vector<Answer> answers;
  if (auto stopped = misbehave(running)) {
    answers.assign(running.calls.size(), *std::move(stopped));
  } else {
    answers = function.run_together(running);
  }
  marks_.end(0, batch);
  for (const Asked& each : running.calls) marks_.end(each.row, each.call);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const bool last = i + 1 == answers.size();  // it speaks for the whole batch
    const std::uint8_t flags =
        last ? wire::reply_flags(unclean_by_script(), running.interrupted) : std::uint8_t{0};
    const std::uint64_t call = running.calls[i].call;
    reply(call, {}, answer_frame(call, std::move(answers[i]), flags));
  }
}

void Worker::run_one_of_batch(Asked one) {
  AloneCall running(place(), std::move(one));
  const Asked& asked = running.asked;
  if (!begin(asked)) return refuse(asked.call, asked.row, cancelled_before_start());
  if (!marks_.start(0, asked.call, asked.function->name)) supervisor_gone();
  std::optional<Turn> turn;
  if (asked.function->async) turn.emplace(loop_);
  Answer answer = run_function(running);
  marks_.end(0, asked.call);
  marks_.end(asked.row, asked.call);
  turn.reset();
  std::vector<Out> frames;
  attach_to(running, answer, frames);
  Out last = last_frame(running, std::move(answer), wire::reply_flags(false, running.interrupted));
  reply(asked.call, std::move(frames), std::move(last));
}

// ---- on its thread

bool Worker::begin(const Asked& asked) {
  if (!marks_.start(asked.row, asked.call, asked.function->name)) return false;
  Session* session = asked.session.get();
  if (session != nullptr) session->open();
  chaos_.note_effect(asked.call, session != nullptr ? session->birth : 0,
                     session != nullptr ? session->epoch : 0,
                     session != nullptr ? std::string_view(session->id) : std::string_view());
  return true;
}

std::optional<Raised> Worker::misbehave(Running& running) {
  if (script_.crash_after_calls && replies_ >= *script_.crash_after_calls) {
    ::signal(SIGSEGV, SIG_DFL);
    ::kill(::getpid(), SIGSEGV);
    hang();  // until the main thread has taken it
  }
  if (script_.slow_ms > 0) return running.wait(script_.slow_ms, true);
  return std::nullopt;
}

Answer Worker::run_function(Running& running) {
  if (auto stopped = misbehave(running)) return *std::move(stopped);
  const Function& function = *running.asked.function;
  if (function.run_together == nullptr) return function.run(running);
  BatchRun one(place(), running.asked.call, {running.asked});
  Answer answer = std::move(function.run_together(one).front());
  running.interrupted = one.interrupted;
  return answer;
}

void Worker::run_shared(SharedCall& running) {
  const Asked& asked = running.asked;
  std::optional<Turn> turn;
  if (asked.function->async) turn.emplace(loop_);
  if (running.told() || !begin(asked)) {
    shared_.remove(running);
    return refuse(asked.call, asked.row, cancelled_before_start());
  }
  Answer answer = run_function(running);
  marks_.end(asked.row, asked.call);
  turn.reset();
  std::vector<Out> frames;
  attach_to(running, answer, frames);
  Out last = last_frame(running, std::move(answer), wire::reply_flags(false, running.interrupted));
  shared_.remove(running);
  reply(asked.call, std::move(frames), std::move(last));
}

// ---- the answer

void Worker::attach_to(const Running& running, Answer& answer, std::vector<Out>& frames) {
  const auto* returned = std::get_if<Returned>(&answer);
  if (returned == nullptr) return;
  const std::uint64_t most = marks_.result_max();
  if (returned->json.size() > most) {
    answer = too_large(returned->json.size(), most);
    return;
  }
  if (auto wrong = refuse_attached(returned->attached, marks_.attached_max())) {
    answer = *std::move(wrong);
    return;
  }
  const Asked& asked = running.asked;
  std::vector<std::uint32_t> used;
  for (const Attached& each : returned->attached) {
    std::optional<Attachments::Room> room;
    if (asked.row == 0 && each.bytes.size() >= wire::kSlabFrom) {
      room = room_for(asked.call, each.bytes.size(), used);
    }
    if (room) {
      each.bytes.copy(room->data, each.bytes.size());
      used.push_back(room->slab);
    }
    frames.push_back(attached_frame(asked.call, each, room ? room->slab : 0));
  }
}

std::optional<Attachments::Room> Worker::room_for(std::uint64_t call, std::uint64_t bytes,
                                                  const std::vector<std::uint32_t>& used) {
  if (const auto room = attachments_.room(bytes, used)) return room;
  std::string wanted;
  wire::append_slab_wanted(wanted, call, bytes);
  channel_.send(wanted);
  const Received answer = channel_.next_of(wire::Type::kSlab);
  const auto message = wire::decode_slab(answer.frame());
  if (!message) supervisor_gone();
  if (message->op == wire::SlabOp::kNone) return std::nullopt;
  take_slab(answer);
  return attachments_.room_in(message->slab);
}

Out Worker::last_frame(const Running& running, Answer answer, std::uint8_t flags) {
  const Asked& asked = running.asked;
  if (!asked.saves) return answer_frame(asked.call, std::move(answer), flags);
  return saved_frame(asked.call, std::move(answer), flags,
                     asked.session->state(marks_.snapshot_max()));
}

bool Worker::unclean_by_script() const {
  return script_.unclean_every > 0 && (replies_ + 1) % script_.unclean_every == 0;
}

void Worker::refuse(std::uint64_t call, std::uint16_t row, Raised why) {
  const bool unclean = row == 0 && unclean_by_script();
  reply(call, {}, answer_frame(call, std::move(why), wire::reply_flags(unclean, false)));
}

void Worker::reply(std::uint64_t call, std::vector<Out> frames, Out answer) {
  const std::lock_guard lock(replying_);
  misreply(call, answer.head);
  frames.push_back(std::move(answer));
  // Before the supervisor has the answer: its next call is already counted against these.
  ++replies_;
  last_call_ = call;
  channel_.send(frames);
  if (script_.duplicate_reply) channel_.send(std::span(frames).last(1));
}

// What the script has in store instead of, or before, this answer.
void Worker::misreply(std::uint64_t call, std::string_view head) {
  if (script_.garbage_after && replies_ >= *script_.garbage_after) {
    channel_.send(std::string(64, '\xff'));
    hang();
  }
  if (script_.half_frame_after && replies_ >= *script_.half_frame_after) {
    channel_.send(head.substr(0, head.size() / 2));
    ::_exit(0);
  }
  if (script_.zombie_nested && last_call_ != 0 && last_call_ != call) {
    std::string zombie;
    static_cast<void>(wire::append_nested_head(
        zombie, {.parent = last_call_, .request = ++last_request_, .name = "pid"}));
    channel_.send(zombie);
  }
  if (script_.zombie_reply && last_call_ != 0 && last_call_ != call) {
    std::string zombie;
    wire::append_payload_head(zombie, wire::Type::kResult, last_call_, 8);
    channel_.send(zombie, "\"zombie\"");
  }
}

}  // namespace keelback::fakeworker
