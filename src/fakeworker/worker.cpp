#include "fakeworker/worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <thread>
#include <utility>

#include "base/json_text.h"
#include "wire/process.h"

namespace keelback::fakeworker {
namespace {

constexpr std::size_t kEndedMax = 1000;
constexpr std::string_view kReasons[] = {"expired", "ended", "lost", "evicted", "drained", "moved"};

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

std::string error_json(const Raised& raised) {
  const Json json = {{"type", raised.type},
                     {"message", raised.message},
                     {"traceback", "Traceback (most recent call last):\n  File \"<fakeworker>\"\n" +
                                       raised.type + ": " + raised.message + "\n"}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Worker::Worker(std::string app, int data_fd, int control_fd, int marks_fd)
    : app_(std::move(app)), marks_(marks_fd), channel_(data_fd), control_fd_(control_fd) {}

void Worker::supervisor_gone() {
  if (script_.term_immune) hang();
  ::_exit(1);
}

void Worker::send(std::string_view head, std::string_view payload) {
  if (!channel_.send(head, payload)) supervisor_gone();
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
  send(head, body);
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
  send(head, body);
}

void Worker::start() {
  const auto script = parse_script(app_);
  if (script) script_ = *script;
  chaos_.obey(script_);
  misbehave_at(Step::kConnect);
  std::string bytes;
  wire::append_connect(bytes, script_.bad_version ? 99 : wire::kVersion);
  send(bytes);
  if (!script) start_failed("hello", "ValueError", script.error());
  pause_ms(script_.import_ms);
  misbehave_at(Step::kHello);
  send_hello();
  pause_ms(script_.setup_ms);
  misbehave_at(Step::kSetup);
  bytes.clear();
  wire::append_ready(bytes);
  send(bytes);
}

void Worker::run() {
  marks_.install_signals();
  start();
  // Signals are the main thread's: the control thread is born with all of them blocked.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([this] { serve_control(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  while (auto received = channel_.next()) handle(*received);
  supervisor_gone();
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
      if ((*frame)->type() == wire::Type::kCancel) {
        marks_.wake();
      } else if (const auto token = wire::decode_ping(**frame)) {
        std::string pong;
        wire::append_pong(pong, {.token = *token, .running = marks_.running()});
        if (::send(control_fd_, pong.data(), pong.size(), MSG_NOSIGNAL) < 0) return;
      }
    }
  }
}

// ---- between calls

void Worker::handle(const Received& received) {
  switch (received.header.type) {
    case wire::Type::kCall: {
      const auto message = wire::decode_call(received.frame());
      if (!message) supervisor_gone();
      return call(*message);
    }
    case wire::Type::kAttach: {
      const auto message = wire::decode_attachment(received.frame());
      if (!message || !attachments_.take(*message)) supervisor_gone();
      return;
    }
    case wire::Type::kSlab:
      return take_slab(received);
    case wire::Type::kSessionEnd: {
      const auto message = wire::decode_session_end(received.frame());
      if (!message) supervisor_gone();
      return end_session(*message);
    }
    case wire::Type::kSave: {
      const auto message = wire::decode_save(received.frame());
      if (!message) supervisor_gone();
      return save(*message);
    }
    case wire::Type::kRestore: {
      const auto message = wire::decode_restore(received.frame());
      if (!message) supervisor_gone();
      return restore(received.header.call, *message);
    }
    case wire::Type::kCheck: {
      std::string answer;
      const bool healthy = !script_.unhealthy_after || replies_ < *script_.unhealthy_after;
      wire::append_checked(answer, {healthy, healthy ? "" : "enough calls were answered"});
      return send(answer);
    }
    case wire::Type::kShutdown:
      if (!script_.ignore_shutdown) ::_exit(0);
      return;
    default:
      return;  // CREDIT of a stream that is over
  }
}

void Worker::take_slab(const Received& received) {
  const auto message = wire::decode_slab(received.frame());
  if (!message) supervisor_gone();
  if (message->op == wire::SlabOp::kGone) {
    if (!attachments_.unmap(message->slab)) supervisor_gone();
  } else if (message->op == wire::SlabOp::kComing) {
    const auto here = channel_.next_of(wire::Type::kSlab);
    if (!here || !attachments_.map(*message, channel_.take_fd())) supervisor_gone();
  }
}

void Worker::end_session(const wire::SessionEndMessage& message) {
  const auto found = sessions_.find(message.session);
  if (found == sessions_.end() || found->second.birth != message.birth) return;
  note_end(found->first, found->second, kReasons[static_cast<std::size_t>(message.reason)]);
  sessions_.erase(found);
}

// What an end hook would be told: a session whose opening no call got to is not ended either.
void Worker::note_end(const std::string& id, const Session& session, std::string_view reason) {
  if (!session.opened) return;
  if (ended_.size() >= kEndedMax) ended_.erase(ended_.begin());
  ended_.emplace_back(id, reason);
}

namespace {

// A session's state as @keelback.snapshot would write it, or why it cannot.
std::pair<wire::StateFormat, std::string> state_of(const Session* session, std::uint64_t most) {
  if (session == nullptr) return {wire::StateFormat::kNone, "it is not open here in this epoch"};
  if (!session->opened && !session->given) {
    return {wire::StateFormat::kNone, "the session did not open"};
  }
  if (session->spoilt) return {wire::StateFormat::kNone, "its state is of type object"};
  std::string json = Json({{"calls", session->given ? *session->given : session->counter}}).dump();
  if (json.size() > most) {
    return {wire::StateFormat::kNone, "it has " + std::to_string(json.size()) +
                                          " bytes; sessions.snapshot_max is " +
                                          std::to_string(most)};
  }
  return {wire::StateFormat::kJson, std::move(json)};
}

}  // namespace

void Worker::save(const wire::SaveMessage& message) {
  const auto found = sessions_.find(message.session);
  const bool here = found != sessions_.end() && found->second.birth == message.birth &&
                    found->second.epoch == message.epoch;
  const auto [format, state] = state_of(here ? &found->second : nullptr, marks_.snapshot_max());
  std::string bytes;
  wire::append_snapshot(bytes, {.birth = message.birth,
                                .epoch = message.epoch,
                                .format = format,
                                .session = message.session,
                                .state = state});
  send(bytes);
}

void Worker::restore(std::uint64_t call, const wire::RestoreMessage& message) {
  const Json state = parse_json<Json>(message.state);
  const bool ours = state.is_object() && state.contains("calls") && state["calls"].is_number();
  given_ = {call, ours ? state["calls"].get<std::uint64_t>() : 0};
}

std::optional<Raised> Worker::find_session(const wire::CallMessage& message, Session*& session) {
  session = nullptr;
  if (message.session.empty()) return std::nullopt;
  if (message.opens || message.restores) {
    std::optional<std::uint64_t> given;
    if (message.restores) {
      if (!given_ || given_->first != message.call) {
        return Raised{wire::ErrorKind::kError, "keelback.SessionNotHere",
                      "the call came without the state that it is to restore"};
      }
      given = std::exchange(given_, std::nullopt)->second;
    }
    const auto place = sessions_.try_emplace(std::string(message.session)).first;
    note_end(place->first, place->second, "lost");  // one in the way
    session = &place->second;
    *session = {.birth = message.birth, .epoch = message.epoch, .given = given};
    return std::nullopt;
  }
  const auto found = sessions_.find(message.session);
  if (found != sessions_.end() && found->second.birth == message.birth &&
      found->second.epoch == message.epoch) {
    session = &found->second;
    return std::nullopt;
  }
  return Raised{wire::ErrorKind::kError, "keelback.SessionNotHere",
                "session '" + std::string(message.session) + "' is not open here in this epoch"};
}

// ---- a call

void Worker::call(const wire::CallMessage& message) {
  Session* session = nullptr;
  if (auto wrong = find_session(message, session)) return reply(message.call, *std::move(wrong));
  const Function* function = find_function(message.function);
  if (function == nullptr) {
    return reply(message.call,
                 Raised{wire::ErrorKind::kUnknownFunction, "LookupError",
                        "there is no function '" + std::string(message.function) + "'"});
  }
  auto bound = bind(*function, message.payload);
  if (auto* wrong = std::get_if<Raised>(&bound)) return reply(message.call, std::move(*wrong));
  if (!marks_.start(message.call, function->name)) {
    auto stopped = cancelled();
    stopped.message = "the call was cancelled before it started";
    return reply(message.call, std::move(stopped));
  }
  const Session* saves = message.saves ? session : nullptr;
  if (session != nullptr) {
    session->opened = true;
    if (session->given) session->counter = *std::exchange(session->given, std::nullopt);
  }
  chaos_.note_effect(message.call, message.birth, message.epoch, message.session);
  bool unclean = false;
  Answer answer = run_function(message, *function, std::move(std::get<std::vector<Json>>(bound)),
                               session, unclean);
  marks_.end(message.call);
  reply(message.call, std::move(answer), unclean, saves);
}

Answer Worker::run_function(const wire::CallMessage& message, const Function& function,
                            std::vector<Json> arguments, Session* session, bool& unclean) {
  if (script_.crash_after_calls && replies_ >= *script_.crash_after_calls) {
    ::signal(SIGSEGV, SIG_DFL);
    ::kill(::getpid(), SIGSEGV);
  }
  std::uint64_t credit = wire::kStreamCredit;
  Running running{
      .call = message.call,
      .stream = message.stream,
      .session = session,
      .marks = &marks_,
      .attachments = &attachments_,
      .arguments = std::move(arguments),
      .put_item = [&](std::string_view json) { return put_item(message.call, credit, json); },
      .ended = &ended_};
  if (script_.slow_ms > 0) {
    if (auto stopped = wait(running, script_.slow_ms, true)) return *std::move(stopped);
  }
  Answer answer = function.run(running);
  unclean = running.unclean;
  return answer;
}

std::optional<Raised> Worker::put_item(std::uint64_t call, std::uint64_t& credit,
                                       std::string_view json) {
  while (true) {
    marks_.calm();
    if (marks_.interrupted(call)) return keyboard_interrupt();
    if (marks_.cancelled(call)) return cancelled();
    if (credit > 0) break;
    pollfd waiting[2] = {{.fd = channel_.fd(), .events = POLLIN, .revents = 0},
                         {.fd = marks_.wake_fd(), .events = POLLIN, .revents = 0}};
    if (::poll(waiting, 2, -1) > 0 && waiting[0].revents != 0) {
      if (!channel_.read()) supervisor_gone();
      credit += channel_.take_credit(call);
    }
  }
  --credit;
  std::string head;
  wire::append_payload_head(head, wire::Type::kItem, call, json.size());
  send(head, json);
  return std::nullopt;
}

// ---- the answer

void Worker::reply(std::uint64_t call, Answer answer, bool unclean, const Session* saves) {
  unclean |= script_.unclean_every > 0 && (replies_ + 1) % script_.unclean_every == 0;
  const std::uint8_t flags = wire::reply_flags(unclean, ended_by_interrupt(answer));
  if (auto* returned = std::get_if<Returned>(&answer)) {
    const std::uint64_t most = marks_.result_max();
    if (returned->json.size() > most) {
      answer = too_large(returned->json.size(), most);
    } else if (!returned->attached.empty()) {
      if (auto wrong = send_attached(call, returned->attached)) answer = *std::move(wrong);
    }
  }
  if (const std::string notes = attachments_.notes(); !notes.empty()) send(notes);
  attachments_.end_call();
  std::string head;
  std::string payload;
  if (auto* returned = std::get_if<Returned>(&answer)) {
    payload = std::move(returned->json);
    wire::append_payload_head(head, wire::Type::kResult, call, payload.size(), flags);
  } else if (const auto* raised = std::get_if<Raised>(&answer)) {
    payload = error_json(*raised);
    wire::append_error_head(head, call, {.kind = raised->kind, .json = payload}, flags);
  } else {
    wire::append_end(head, call, flags);
  }
  if (saves != nullptr) {
    const auto [format, state] = state_of(saves, marks_.snapshot_max());
    const auto type = static_cast<wire::Type>(head[4]);
    std::string body = head.substr(wire::kHeaderBytes) + payload;
    head.clear();
    wire::append_saved(head, call, {.answer = type, .format = format, .state = state, .body = body},
                       flags);
    payload.clear();
  }
  misreply(call, head);
  send(head, payload);
  if (script_.duplicate_reply) send(head, payload);
  ++replies_;
  last_call_ = call;
}

std::optional<Raised> Worker::send_attached(std::uint64_t call,
                                            const std::vector<Attached>& attached) {
  std::uint64_t sum = 0;
  for (const Attached& each : attached) sum += each.bytes.size();
  if (sum > marks_.attached_max() || attached.size() > wire::kAttachmentsMax) {
    return Raised{wire::ErrorKind::kError, "keelback.ResultError",
                  "the result's attachments are too large: " + std::to_string(sum) +
                      " bytes; attachments.max is " + std::to_string(marks_.attached_max())};
  }
  std::vector<std::uint32_t> used;
  for (const Attached& each : attached) {
    wire::AttachmentMessage message{.call = call,
                                    .bytes = each.bytes.size(),
                                    .shape = each.shape,
                                    .dtype = each.dtype,
                                    .name = each.name,
                                    .filename = each.filename,
                                    .content_type = each.content_type};
    std::optional<Attachments::Room> room;
    if (each.bytes.size() >= wire::kSlabFrom) {
      room = attachments_.room(each.bytes.size(), used);
      if (!room) room = ask_for_room(call, each.bytes.size());
    }
    if (room) {
      each.bytes.copy(room->data, each.bytes.size());
      message.slab = room->slab;
      used.push_back(room->slab);
    }
    std::string head;
    if (!wire::append_attachment_head(head, wire::Type::kAttached, message)) supervisor_gone();
    send(head, room ? std::string_view{} : std::string_view(each.bytes));
  }
  return std::nullopt;
}

std::optional<Attachments::Room> Worker::ask_for_room(std::uint64_t call, std::uint64_t bytes) {
  std::string wanted;
  wire::append_slab_wanted(wanted, call, bytes);
  send(wanted);
  const auto answer = channel_.next_of(wire::Type::kSlab);
  if (!answer) supervisor_gone();
  const auto message = wire::decode_slab(answer->frame());
  if (!message) supervisor_gone();
  if (message->op == wire::SlabOp::kNone) return std::nullopt;
  take_slab(*answer);
  return attachments_.room_in(message->slab);
}

// What the script has in store instead of, or before, this answer.
void Worker::misreply(std::uint64_t call, std::string_view head) {
  if (script_.garbage_after && replies_ >= *script_.garbage_after) {
    send(std::string(64, '\xff'));
    hang();
  }
  if (script_.half_frame_after && replies_ >= *script_.half_frame_after) {
    send(head.substr(0, head.size() / 2));
    ::_exit(0);
  }
  if (script_.zombie_reply && last_call_ != 0 && last_call_ != call) {
    std::string zombie;
    wire::append_payload_head(zombie, wire::Type::kResult, last_call_, 8);
    send(zombie, "\"zombie\"");
  }
}

}  // namespace keelback::fakeworker
