#include "protocol_peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "support/waiting.h"

namespace keelback::conformance {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
constexpr char kStart[] = KEELBACK_SOURCE_DIR "/python/keelback/start.py";
constexpr std::size_t kOrderMax = 256 << 10;  // no packet of a zygote is longer

std::chrono::seconds patience() { return 20s * test::stretch(); }

struct Pair {
  Fd ours, theirs;
};
Pair socket_pair() {
  int fds[2];
  CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
  CHECK(::fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
  return {Fd(fds[0]), Fd(fds[1])};
}
// ours reads; the lifeline's is swapped by its caller.
Pair pipe_pair() {
  int fds[2];
  CHECK(::pipe2(fds, O_CLOEXEC) == 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

// Above every number that a child's descriptors get, so that none is overwritten before its turn.
Fd moved_up(int fd) {
  const int up = ::fcntl(fd, F_DUPFD_CLOEXEC, 100);
  CHECK(up >= 0);
  return Fd(up);
}

// The child gets numbers[i] as descriptor i; -1: nothing.
pid_t spawn_with(const std::vector<std::string>& argv, const std::vector<int>& numbers) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  std::vector<Fd> kept;
  for (std::size_t i = 1; i < numbers.size(); ++i) {
    if (numbers[i] < 0) continue;
    kept.push_back(moved_up(numbers[i]));
    posix_spawn_file_actions_adddup2(&actions, kept.back().get(), static_cast<int>(i));
  }
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::vector<std::string> environment = {"PYTHONPATH=" KEELBACK_SOURCE_DIR "/python",
                                          "PYTHONDONTWRITEBYTECODE=1", "KEELBACK_WORKER=3.7"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("PYTHONPATH=")) environment.emplace_back(*entry);
  }
  std::vector<char*> variables;
  for (std::string& entry : environment) variables.push_back(entry.data());
  variables.push_back(nullptr);
  pid_t pid = -1;
  const int error =
      ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), variables.data());
  posix_spawn_file_actions_destroy(&actions);
  EXPECT_EQ(error, 0) << argv[0] << ": " << std::strerror(error);
  return pid;
}

std::string standard_app(Program program) {
  return program == Program::kFake ? "standard" : KEELBACK_SOURCE_DIR "/tests/apps/conformance.py";
}

char state_of(const std::filesystem::path& process) {
  std::ifstream file(process / "stat");
  std::string text;
  std::getline(file, text);
  const std::size_t end = text.rfind(')');
  return end == text.npos ? '-' : text[end + 2];
}

}  // namespace

std::string name_of(Program program) {
  switch (program) {
    case Program::kFake:
      return "fake";
    case Program::kPython:
      return "python";
    case Program::kZygote:
      return "zygote";
  }
  return "?";
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}
Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

// ---- starting and ending

Peer::Peer() = default;

Peer::~Peer() {
  if (pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  lifeline_.reset();
  orders_fd_.reset();
  if (child_ > 0 && !reaped_) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  if (marks_ != nullptr) ::munmap(marks_, wire::kMarksBytes);
  for (const auto& [data, bytes] : slabs_) ::munmap(data, bytes);
}

std::unique_ptr<Peer> Peer::start(Program program, const std::string& app) {
  std::unique_ptr<Peer> peer(new Peer());
  peer->spawn(program, app.empty() ? standard_app(program) : app);
  return peer;
}

std::unique_ptr<Peer> Peer::ready(Program program, const std::string& app) {
  auto peer = start(program, app);
  for (const wire::Type expected : {wire::Type::kConnect, wire::Type::kHello, wire::Type::kReady}) {
    const auto message = peer->next();
    EXPECT_TRUE(message && message->type() == expected)
        << "instead of " << wire::to_string(expected) << ": "
        << (message ? std::string(wire::to_string(message->type())) + " " + message->body : "end")
        << "\nlog: " << peer->log_text_;
  }
  return peer;
}

void Peer::spawn(Program program, const std::string& app) {
  Pair data = socket_pair();
  Pair control = socket_pair();
  Pair log = pipe_pair();
  Pair lifeline = pipe_pair();
  CHECK(::fcntl(log.ours.get(), F_SETFL, O_NONBLOCK) == 0);
  const Fd memory(::memfd_create("marks", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(memory && ::ftruncate(memory.get(), wire::kMarksBytes) == 0);
  CHECK(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  void* page =
      ::mmap(nullptr, wire::kMarksBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  CHECK(page != MAP_FAILED);
  marks_ = static_cast<char*>(page);
  data_.fd = std::move(data.ours);
  control_.fd = std::move(control.ours);
  log_ = std::move(log.ours);
  lifeline_ = std::move(lifeline.theirs);

  const int out = log.theirs.get();
  if (program == Program::kZygote) {
    Pair orders = socket_pair();
    orders_fd_ = std::move(orders.ours);
    child_ = spawn_with({KEELBACK_PYTHON, kStart, "keelback.zygote", "--app", app},
                        {-1, out, out, orders.theirs.get(), -1, -1, lifeline.ours.get()});
    orders.theirs.reset();
    fork_from_zygote({data.theirs.get(), control.theirs.get(), memory.get(), out});
  } else {
    std::vector<std::string> argv = {KEELBACK_FAKEWORKER};
    if (program == Program::kPython) argv = {KEELBACK_PYTHON, kStart, "keelback.worker"};
    argv.insert(argv.end(), {"--app", app, "--worker", "3.7"});
    child_ = pid_ = spawn_with(argv, {-1, out, out, data.theirs.get(), control.theirs.get(),
                                      memory.get(), lifeline.ours.get()});
  }
  if (pid_ > 0) pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
}

void Peer::fork_from_zygote(std::vector<int> fds) {
  const auto answer = [&]() -> Json {
    std::string packet(kOrderMax, '\0');
    ssize_t got = -1;
    until([&] { return (got = ::recv(orders_fd_.get(), packet.data(), packet.size(), 0)) >= 0; },
          "the zygote says something");
    return Json::parse(packet.substr(0, static_cast<std::size_t>(std::max<ssize_t>(got, 0))),
                       nullptr, false);
  };
  do {
    orders_.ready = answer();
  } while (orders_.ready.is_object() && orders_.ready["op"] == "notice");
  if (!orders_.ready.is_object() || orders_.ready["op"] != "ready") return;

  std::string order = R"({"op":"fork","worker":"3.7"})";
  iovec part{order.data(), order.size()};
  alignas(cmsghdr) char space[CMSG_SPACE(4 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(4 * sizeof(int));
  std::memcpy(CMSG_DATA(rights), fds.data(), 4 * sizeof(int));
  EXPECT_GT(::sendmsg(orders_fd_.get(), &message, MSG_NOSIGNAL), 0);
  orders_.forked = answer();
  EXPECT_EQ(orders_.forked.value("op", ""), "forked") << orders_.forked;
  pid_ = orders_.forked.value("pid", -1);
}

// ---- the pump

void Peer::flush(Socket& socket) {
  while (socket.fd && !socket.out.empty()) {
    const std::string& packet = socket.out.front();
    if (::send(socket.fd.get(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
      if (errno == EAGAIN) return;
      socket.out.clear();  // it has gone; what it said before is still to be read
      return;
    }
    socket.out.pop_front();
  }
}

void Peer::receive(Socket& socket) {
  static thread_local std::string packet(wire::kPacketMax + 1, '\0');
  while (socket.fd && !socket.ended) {
    const std::span<char> room = socket.decoder.room();
    iovec parts[2] = {{room.data(), room.size()}, {packet.data(), packet.size()}};
    msghdr message{};
    message.msg_iov = room.empty() ? &parts[1] : parts;
    message.msg_iovlen = room.empty() ? 1 : 2;
    ssize_t got = ::recvmsg(socket.fd.get(), &message, MSG_DONTWAIT);
    if (got < 0 && errno == ECONNRESET) continue;  // said once; what was sent before is behind it
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      socket.ended = true;
      EXPECT_TRUE(got == 0) << std::strerror(errno);
      return;
    }
    const auto bytes = static_cast<std::size_t>(got);
    EXPECT_LE(bytes, wire::kPacketMax) << "a packet over 64 KiB";
    const std::size_t direct = std::min(bytes, room.size());
    socket.decoder.filled(direct);
    socket.decoder.feed({packet.data(), bytes - direct});
    while (true) {
      const auto frame = socket.decoder.next();
      if (!frame) {
        socket.ended = true;  // the tests of a wrong worker look for this
        return;
      }
      if (!*frame) break;
      const wire::Header header = (*frame)->header;
      socket.in.push_back({header, socket.decoder.take_body()});
    }
  }
}

void Peer::receive_log() {
  char text[4096];
  while (log_) {
    const ssize_t got = ::read(log_.get(), text, sizeof text);
    if (got > 0) {
      log_text_.append(text, static_cast<std::size_t>(got));
    } else {
      if (got == 0) log_.reset();
      return;
    }
  }
}

void Peer::pump(std::chrono::milliseconds wait) {
  flush(data_);
  flush(control_);
  const auto interest = [](const Socket& socket) -> pollfd {
    const bool open = socket.fd && !socket.ended;
    return {open ? socket.fd.get() : -1,
            static_cast<short>(POLLIN | (socket.out.empty() ? 0 : POLLOUT)), 0};
  };
  pollfd fds[] = {
      interest(data_), interest(control_), {log_.get(), POLLIN, 0}, {orders_fd_.get(), POLLIN, 0}};
  ::poll(fds, std::size(fds), static_cast<int>(wait.count()));
  receive(data_);
  receive(control_);
  receive_log();
}

bool Peer::until(const std::function<bool()>& condition, std::string_view what) {
  const auto end = Clock::now() + patience();
  while (!condition()) {
    if (Clock::now() > end) {
      ADD_FAILURE() << "never: " << what << "\nlog: " << log_text_;
      return false;
    }
    pump(1ms);  // conditions in memory have no descriptor: look again soon
  }
  return true;
}

// ---- bytes

char* Peer::give_slab(std::uint32_t id, std::size_t bytes) {
  const Fd fd(::memfd_create("keelback-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(fd && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  CHECK(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  CHECK(data != MAP_FAILED);
  slabs_.emplace_back(static_cast<char*>(data), bytes);

  std::string coming, here;
  wire::append_slab(coming, {wire::SlabOp::kComing, id, bytes});
  wire::append_slab(here, {wire::SlabOp::kHere, id, bytes});
  send(coming);
  until([&] { return data_.out.empty(); }, "the announcement of a slab has been sent");
  iovec part{here.data(), here.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int number = fd.get();
  std::memcpy(CMSG_DATA(header), &number, sizeof(number));
  until([&] { return ::sendmsg(data_.fd.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) > 0; },
        "the slab has been sent");
  return static_cast<char*>(data);
}

void Peer::slab(wire::SlabOp op, std::uint32_t id) {
  std::string bytes;
  wire::append_slab(bytes, {op, id, 0});
  send(bytes);
}

void Peer::send(std::string bytes) {
  for (wire::Packets plan(bytes); !plan.done(); plan.sent()) {
    data_.out.emplace_back(plan.packet().parts[0]);
  }
  flush(data_);
}
void Peer::send_packets(std::vector<std::string> packets) {
  for (std::string& packet : packets) data_.out.push_back(std::move(packet));
  flush(data_);
}
void Peer::send_control(std::string bytes) {
  control_.out.push_back(std::move(bytes));
  flush(control_);
}

std::optional<Message> Peer::next_of(Socket& socket, std::string_view what) {
  until([&] { return !socket.in.empty() || socket.ended; }, what);
  if (socket.in.empty()) return std::nullopt;
  Message first = std::move(socket.in.front());
  socket.in.pop_front();
  return first;
}
std::optional<Message> Peer::next() { return next_of(data_, "a frame, or the end"); }
std::optional<Message> Peer::next_control() {
  return next_of(control_, "a frame on the control socket, or its end");
}
bool Peer::ended() {
  return until([&] { return data_.ended; }, "the end of the data socket");
}
bool Peer::ended_inside_a_frame() { return ended() && !data_.decoder.at_boundary(); }
std::size_t Peer::waiting() {
  pump(0ms);
  return data_.in.size();
}
std::size_t Peer::waiting_control() {
  pump(0ms);
  return control_.in.size();
}

// ---- calls

std::string Peer::encode(std::uint64_t id, const Ask& ask) {
  std::string bytes;
  CHECK(wire::append_call_head(bytes, {.call = id,
                                       .row = ask.row,
                                       .deadline_ns = ask.deadline_ns,
                                       .birth = ask.birth,
                                       .epoch = ask.epoch,
                                       .attempt = 1,
                                       .opens = ask.opens,
                                       .stream = ask.stream,
                                       .attached = ask.attached,
                                       .restores = ask.restores,
                                       .saves = ask.saves,
                                       .function = ask.function,
                                       .session = ask.session,
                                       .trace = ask.trace,
                                       .payload = ask.payload}));
  return bytes.append(ask.payload);
}

std::uint64_t Peer::send_call(const Ask& ask) {
  send(encode(++last_call_, ask));
  return last_call_;
}

Reply Peer::reply() {
  if (!kept_.empty()) {
    Reply first = std::move(kept_.front());
    kept_.pop_front();
    return first;
  }
  while (auto message = next()) {
    const std::uint64_t call = message->header.call;
    // The frames of one answer come in a row; those about slabs need not name their call.
    if (answering_ != 0 && call != 0) {
      EXPECT_EQ(call, answering_) << wire::to_string(message->type()) << " amid another answer";
    }
    Reply& reply = begun_[call == 0 ? answering_ : call];
    if (!take(std::move(*message), reply)) continue;
    Reply whole = std::move(reply);
    const auto slabs = begun_.find(0);
    if (slabs != begun_.end() && call != 0) {
      whole.kept = std::move(slabs->second.kept);
      whole.freed = std::move(slabs->second.freed);
    }
    begun_.erase(call);
    begun_.erase(0);
    answering_ = 0;
    return whole;
  }
  ADD_FAILURE() << "the worker has gone without an answer; log: " << log_text_;
  return {};
}

Reply Peer::reply_of(std::uint64_t call) {
  const auto known =
      std::ranges::find_if(kept_, [call](const Reply& each) { return each.call == call; });
  if (known != kept_.end()) {
    Reply found = std::move(*known);
    kept_.erase(known);
    return found;
  }
  std::deque<Reply> others = std::exchange(kept_, {});
  Reply found = reply();
  while (found.call != call && found.type != wire::Type{}) {
    others.push_back(std::move(found));
    found = reply();
  }
  kept_ = std::move(others);
  return found;
}

// Adds what one frame says of the call; true: it is the last one.
bool Peer::take(Message message, Reply& reply) {
  reply.type = message.type();
  reply.call = message.header.call;
  reply.unclean = message.unclean();
  reply.interrupted = message.interrupted();
  if (message.type() == wire::Type::kSaved) {
    const auto saved = wire::decode_saved({message.header, message.body});
    EXPECT_TRUE(saved) << "a SAVED that makes no sense";
    if (!saved) return true;
    reply.saved = true;
    reply.format = saved->format;
    reply.state = saved->state;
    reply.type = message.header.type = saved->answer;
    message.body = std::string(saved->body);
  }
  EXPECT_EQ(message.header.flags & ~wire::reply_flags(true, true), 0);
  switch (message.type()) {
    case wire::Type::kItem:
      reply.items.push_back(Json::parse(message.body, nullptr, false));
      return false;
    case wire::Type::kAttached: {
      const auto one = wire::decode_attachment({message.header, message.body});
      EXPECT_TRUE(one) << "an ATTACHED that makes no sense";
      if (!one) return true;
      reply.attached.push_back({std::string(one->name), std::string(one->dtype),
                                std::string(one->filename), std::string(one->content_type),
                                std::string(one->inlined), one->shape, one->slab, one->offset,
                                one->bytes});
      answering_ = reply.call;
      return false;
    }
    case wire::Type::kSlabWanted:
      reply.wanted.push_back(wire::decode_slab_wanted({message.header, message.body}).value_or(0));
      if (on_slab_wanted) {
        on_slab_wanted(reply.wanted.back());
      } else {
        slab(wire::SlabOp::kNone);
      }
      return false;
    case wire::Type::kSlabKept:
    case wire::Type::kSlabFreed: {
      auto& notes = message.type() == wire::Type::kSlabKept ? reply.kept : reply.freed;
      notes.push_back(wire::decode_slab_note({message.header, message.body}).value_or(0));
      return false;
    }
    case wire::Type::kRetire:
      reply.retire = std::move(message.body);
      answering_ = reply.call;
      return false;
    case wire::Type::kResult:
      reply.value = Json::parse(message.body, nullptr, false);
      reply.body = std::move(message.body);
      return true;
    case wire::Type::kError: {
      const auto error = wire::decode_error({message.header, message.body});
      EXPECT_TRUE(error) << "an ERROR without a kind";
      if (!error) return true;
      reply.kind = error->kind;
      reply.error = Json::parse(error->json, nullptr, false);
      EXPECT_TRUE(reply.error.is_object()) << message.body;
      return true;
    }
    default:
      return true;
  }
}

Reply Peer::call(const Ask& ask) {
  const std::uint64_t id = send_call(ask);
  Reply got = reply();
  EXPECT_EQ(got.call, id);
  return got;
}
Reply Peer::call(const std::string& function, const Json& arguments) {
  return call(Ask{.function = function, .payload = arguments.dump()});
}

// ---- marks, signals, life

std::uint64_t Peer::mark(std::size_t offset) const {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(marks_ + offset)).load();
}
void Peer::set_mark(std::size_t offset, std::uint64_t value) {
  std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(marks_ + offset)).store(value);
}
std::uint64_t Peer::row_mark(std::uint16_t row, std::size_t offset) const {
  return mark(wire::row_offset(row) + offset);
}
void Peer::cancel(std::uint64_t call, std::uint16_t row) {
  set_mark(row == 0 ? wire::kMarkCancel : wire::row_offset(row) + wire::kRowCancel, call);
  std::string bytes;
  wire::append_cancel(bytes, call);
  send_control(bytes);
}
void Peer::interrupt(std::uint64_t call) {
  set_mark(wire::kMarkInterrupt, call);
  signal(SIGINT);
}
void Peer::interrupt_shared(std::uint64_t call) {
  std::string bytes;
  wire::append_interrupt(bytes, call);
  send_control(bytes);
}
Reply Peer::interrupted_reply(std::uint64_t call) {
  auto due = Clock::now();
  until(
      [&] {
        if (!data_.in.empty() || data_.ended) return true;
        if (Clock::now() >= due) {
          interrupt(call);
          due = Clock::now() + 20ms;
        }
        return false;
      },
      "the end of an interrupted call");
  return reply();
}
void Peer::signal(int number) {
  EXPECT_EQ(::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0), 0)
      << std::strerror(errno);
}
bool Peer::await_started(std::uint64_t call, std::uint16_t row) {
  const std::size_t started =
      row == 0 ? wire::kMarkStarted : wire::row_offset(row) + wire::kRowStarted;
  return until([&] { return mark(started) == call; }, "the call's started mark");
}
bool Peer::await_asleep() {
  return until([&] { return state_of(proc()) == 'S'; }, "the worker sleeps");
}
bool Peer::await_quiet() {
  const auto quiet = [&] {
    std::size_t asleep = 0;
    for (const auto& thread : std::filesystem::directory_iterator(proc() / "task")) {
      if (state_of(thread.path()) != 'S') return false;
      ++asleep;
    }
    return asleep > 1;  // the control thread is there too
  };
  return until(quiet, "all threads of the worker sleep");
}
std::filesystem::path Peer::proc() const {
  return std::filesystem::path("/proc") / std::to_string(pid_);
}

std::string Peer::dump() const {
  const char* text = marks_ + wire::kDumpOffset;
  return {text, ::strnlen(text, wire::kDumpBytesMax)};
}
std::string Peer::dump_until(std::string_view text) {
  signal(wire::kDumpSignal);
  until([&] { return dump().find(text) != std::string::npos; }, "a dump that says what it should");
  return dump();
}

std::uint64_t Peer::ping(bool loop) {
  std::string bytes;
  wire::append_ping(bytes, ++last_token_ << 32 | 5, loop);
  send_control(bytes);
  return last_token_ << 32 | 5;
}
wire::PongMessage Peer::pong() {
  const auto message = next_control();
  if (!message) {
    ADD_FAILURE() << "the control socket has ended";
    return {};
  }
  return wire::decode_pong({message->header, message->body}).value_or(wire::PongMessage{});
}

std::string Peer::read_log_until(std::string_view text) {
  until([&] { return log_text_.find(text) != log_text_.npos; }, "a line in the log");
  return log_text_;
}

bool Peer::dead() {
  return until(
      [&] {
        pollfd waiting{pidfd_.get(), POLLIN, 0};
        return ::poll(&waiting, 1, 0) > 0;
      },
      "the worker's death");
}

std::optional<int> Peer::status() {
  if (!dead()) return std::nullopt;
  if (child_ == pid_) {
    int status = 0;
    if (::waitpid(child_, &status, 0) != child_) return std::nullopt;
    reaped_ = true;
    return status;
  }
  // The zygote's child: it stands as a zombie until we order otherwise.
  std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t end = text.rfind(')');
  if (end == text.npos) return std::nullopt;
  std::istringstream fields(text.substr(end + 2));
  std::string field;
  for (int number = 3; number <= 52; ++number) fields >> field;
  return std::stoi(field);
}

}  // namespace keelback::conformance
