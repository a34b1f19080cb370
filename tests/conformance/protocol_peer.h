// Plays the supervisor towards one worker, with raw sockets and the page docs/protocol.md: what a
// worker does is seen here byte by byte. Never blocks on one socket while another may have
// something; every wait names what it waits for and ends after kPatience.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/decoder.h"
#include "wire/messages.h"
#include "wire/process.h"

namespace keelback::conformance {

using Json = nlohmann::json;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset() { *this = Fd(); }

 private:
  int fd_ = -1;
};

enum class Program : std::uint8_t {
  kFake,    // keelback-fakeworker
  kPython,  // keelback.worker, executed
  kZygote,  // forked by keelback.zygote
};
std::string name_of(Program program);

struct Message {
  wire::Header header;
  std::string body;
  wire::Type type() const { return header.type; }
  bool unclean() const { return (header.flags & wire::kFlagUnclean) != 0; }
  bool interrupted() const { return (header.flags & wire::kFlagInterrupted) != 0; }
};

// One ATTACHED frame.
struct AttachedFrame {
  std::string name, dtype, filename, content_type, inlined;
  std::vector<std::uint64_t> shape;
  std::uint32_t slab = 0;
  std::uint64_t offset = 0, bytes = 0;
};

// How a call ended: one of RESULT, ERROR, END, and what came before it.
struct Reply {
  wire::Type type{};
  std::uint64_t call = 0;
  bool unclean = false;
  bool interrupted = false;
  std::string body;        // RESULT: the bytes
  Json value;              // RESULT: parsed
  wire::ErrorKind kind{};  // ERROR
  Json error;              // ERROR: {type, message, traceback}
  bool saved = false;      // it came as SAVED, with:
  wire::StateFormat format{};
  std::string state;
  std::vector<Json> items;
  std::vector<AttachedFrame> attached;
  std::vector<std::uint64_t> wanted;  // bytes of each SLAB_WANTED
  std::vector<std::uint32_t> kept, freed;
  std::string retire;  // the reason of its RETIRE
};

// A call with the fields that a test cares about.
struct Ask {
  std::string function;
  std::string payload = "[]";
  std::string session = "";
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  bool opens = false;
  bool stream = false;
  bool restores = false;
  bool saves = false;
  bool attached = false;
  std::string trace = "";
  std::int64_t deadline_ns = 0;
  std::uint16_t row = 0;  // 0: it runs alone
};

// What the zygote of kZygote said on its order socket.
struct Orders {
  Json ready;  // or "failed"
  Json forked;
};

class Peer {
 public:
  // Starts the program; does not wait for anything (kZygote: until its worker is forked, or it has
  // failed). `app` is a script for the fake, an application for Python; empty: the standard one.
  static std::unique_ptr<Peer> start(Program program, const std::string& app = "");
  // start(), and CONNECT, HELLO and READY have come.
  static std::unique_ptr<Peer> ready(Program program, const std::string& app = "");
  ~Peer();

  // ---- calls
  std::uint64_t send_call(const Ask& ask);  // its id
  Reply reply();                            // the next one, whichever call it ends
  Reply reply_of(std::uint64_t call);  // other calls' are kept: this call's comes from those too
  Reply call(const Ask& ask);
  Reply call(const std::string& function, const Json& arguments);
  static std::string encode(std::uint64_t id, const Ask& ask);
  std::uint64_t next_call() const { return last_call_ + 1; }
  std::uint64_t skip_call() { return ++last_call_; }

  // ---- slabs
  // Makes one and hands it over; its bytes, until the peer ends.
  char* give_slab(std::uint32_t id, std::size_t bytes);
  void slab(wire::SlabOp op, std::uint32_t id = 0);
  // What reply() does when the worker asks for a slab; unset: it is refused.
  std::function<void(std::uint64_t bytes)> on_slab_wanted;

  // ---- bytes
  void send(std::string bytes);                 // data; in packets of at most 64 KiB
  void send_packets(std::vector<std::string>);  // data; exactly these packets
  void send_control(std::string bytes);
  std::optional<Message> next();          // the next frame of the data socket; nullopt: its end
  std::optional<Message> next_control();  // nullopt: its end
  bool ended();                           // waits for the end of the data socket
  bool ended_inside_a_frame();
  std::size_t waiting();  // frames of the data socket that are there already
  std::size_t waiting_control();

  // ---- marks, signals, life
  std::uint64_t mark(std::size_t offset) const;
  void set_mark(std::size_t offset, std::uint64_t value);
  std::uint64_t row_mark(std::uint16_t row, std::size_t offset) const;
  void cancel(std::uint64_t call, std::uint16_t row = 0);  // mark and CANCEL
  void interrupt(std::uint64_t call);                      // mark and SIGINT
  void interrupt_shared(std::uint64_t call);               // INTERRUPT
  // The same again and again until the call is over: one that comes just before a blocking system
  // call does not end it.
  Reply interrupted_reply(std::uint64_t call);
  void signal(int number);
  bool await_started(std::uint64_t call, std::uint16_t row = 0);
  bool await_asleep();  // its main thread waits in the kernel
  bool await_quiet();   // every thread of it does
  std::string dump() const;
  // Asks for a dump and waits until it says `text`.
  std::string dump_until(std::string_view text);
  std::uint64_t ping(bool loop = false);  // sends one; its token
  wire::PongMessage pong();
  std::string read_log_until(std::string_view text);
  void close_lifeline() { lifeline_.reset(); }
  void close_data() { data_.fd.reset(); }
  // The wait status, once it is dead; nullopt: it does not die, or its reaper died with it.
  std::optional<int> status();
  bool dead();  // waits for its death
  pid_t pid() const { return pid_; }
  const Orders& orders() const { return orders_; }

  // Waits until `condition`; pumps all sockets meanwhile. False, and a test failure: it never was.
  bool until(const std::function<bool()>& condition, std::string_view what);

 private:
  struct Socket {
    explicit Socket(wire::Link link) : decoder(link, UINT32_MAX) {}
    Fd fd;
    wire::Decoder decoder;
    std::deque<std::string> out;  // packets
    std::deque<Message> in;
    bool ended = false;
  };
  Peer();
  std::filesystem::path proc() const;
  void spawn(Program program, const std::string& app);
  void fork_from_zygote(std::vector<int> fds);
  void pump(std::chrono::milliseconds wait);
  static void flush(Socket& socket);
  static void receive(Socket& socket);
  void receive_log();
  std::optional<Message> next_of(Socket& socket, std::string_view what);
  bool take(Message message, Reply& reply);

  Socket data_{wire::Link::kSupervisorData};
  Socket control_{wire::Link::kSupervisorControl};
  Fd log_;
  Fd lifeline_;
  Fd orders_fd_;  // kZygote
  char* marks_ = nullptr;
  std::vector<std::pair<char*, std::size_t>> slabs_;
  std::string log_text_;
  pid_t child_ = -1;  // our own child: the worker, or its zygote
  pid_t pid_ = -1;    // the worker
  Fd pidfd_;
  bool reaped_ = false;
  std::uint64_t last_call_ = 0;
  std::uint64_t last_token_ = 0;
  std::map<std::uint64_t, Reply> begun_;  // of which something has come
  std::uint64_t answering_ = 0;           // whose answer has begun; 0: no call's
  std::deque<Reply> kept_;
  Orders orders_;
};

}  // namespace keelback::conformance
