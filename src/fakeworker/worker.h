// A worker that speaks the real bytes and starts in a millisecond: for every test that is about the
// supervisor and not about Python. It is strict with its supervisor: whoever breaks the protocol
// loses it. What it does wrong on purpose stands in script.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fakeworker/attachments.h"
#include "fakeworker/batch.h"
#include "fakeworker/channel.h"
#include "fakeworker/chaos.h"
#include "fakeworker/functions.h"
#include "fakeworker/loop.h"
#include "fakeworker/marks.h"
#include "fakeworker/script.h"
#include "fakeworker/sessions.h"
#include "fakeworker/shared.h"
#include "wire/messages.h"

namespace keelback::fakeworker {

class Worker {
 public:
  Worker(std::string app, int data_fd, int control_fd, int marks_fd);
  // From CONNECT to the end of the process.
  [[noreturn]] void run();

 private:
  // ---- starting
  void start();
  [[noreturn]] void start_failed(std::string_view step, std::string_view type,
                                 std::string_view message);
  void misbehave_at(Step step);
  void send_hello();

  // ---- the control thread
  void serve_control();
  // False: the supervisor is gone.
  bool handle_control(const wire::Frame& frame);
  bool send_pong(std::uint64_t token, bool loop);

  // ---- the main thread
  void handle(const Received& received);
  void attach(const Received& received);
  void save(const wire::SaveMessage& message);
  void take_slab(const Received& received);
  void call(const wire::CallMessage& message);
  std::expected<Asked, Raised> prepare(const wire::CallMessage& message);
  void run_alone(Asked asked);
  void share(Asked asked);
  // Reads the calls of a batch, runs them together and answers each.
  void batch(std::uint64_t batch, std::uint32_t calls);
  wire::CallMessage next_of_batch(Received& received);
  void run_together(std::uint64_t batch, std::vector<Asked> calls);
  void run_one_of_batch(Asked asked);  // whose function takes none
  Place place() { return {marks_, channel_, attachments_, sessions_, loop_, last_request_}; }

  // ---- on the call's thread
  // False: the call was told to stop before, and has not begun.
  bool begin(const Asked& asked);
  // What the script has in store for it; nullopt: nothing.
  std::optional<Raised> misbehave(Running& running);
  Answer run_function(Running& running);
  void run_shared(SharedCall& running);

  // ---- the answer, on the call's thread
  // What goes beside a result comes first. It may be too large: then the answer is an error.
  void attach_to(const Running& running, Answer& answer, std::vector<Out>& frames);
  std::optional<Attachments::Room> room_for(std::uint64_t call, std::uint64_t bytes,
                                            const std::vector<std::uint32_t>& used);
  Out last_frame(const Running& running, Answer answer, std::uint8_t flags);
  bool unclean_by_script() const;
  // Ends the call: these frames, and its answer.
  void reply(std::uint64_t call, std::vector<Out> frames, Out answer);
  void refuse(std::uint64_t call, std::uint16_t row, Raised why);
  void misreply(std::uint64_t call, std::string_view head);
  [[noreturn]] void supervisor_gone();

  const std::string app_;
  Script script_;
  Chaos chaos_;
  Marks marks_;
  Channel channel_;
  Attachments attachments_;
  Sessions sessions_;
  Loop loop_;
  SharedCalls shared_;
  const int control_fd_;
  std::vector<Carried> carried_;  // by ATTACH frames, whose CALL follows
  std::mutex replying_;
  std::atomic<std::uint64_t> replies_ = 0;
  std::atomic<std::uint64_t> last_request_ = 0;
  std::uint64_t last_call_ = 0;  // under replying_
};

}  // namespace keelback::fakeworker
