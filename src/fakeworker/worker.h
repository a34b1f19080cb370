// A worker that speaks the real bytes and starts in a millisecond: for every test that is about the
// supervisor and not about Python. What it does wrong on purpose stands in script.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fakeworker/attachments.h"
#include "fakeworker/channel.h"
#include "fakeworker/chaos.h"
#include "fakeworker/functions.h"
#include "fakeworker/marks.h"
#include "fakeworker/script.h"
#include "wire/messages.h"

namespace keelback::fakeworker {

class Worker {
 public:
  Worker(std::string app, int data_fd, int control_fd, int marks_fd);
  // From CONNECT to the end of the process.
  [[noreturn]] void run();

 private:
  void start();
  [[noreturn]] void start_failed(std::string_view step, std::string_view type,
                                 std::string_view message);
  void misbehave_at(Step step);
  void send_hello();
  void serve_control();

  void handle(const Received& received);
  void call(const wire::CallMessage& message);
  void end_session(const wire::SessionEndMessage& message);
  void save(const wire::SaveMessage& message);
  void restore(std::uint64_t call, const wire::RestoreMessage& message);
  void note_end(const std::string& id, const Session& session, std::string_view reason);
  // The session of the call; null: it has none. An answer: the call ends with that.
  std::optional<Raised> find_session(const wire::CallMessage& message, Session*& session);
  Answer run_function(const wire::CallMessage& message, const Function& function,
                      std::vector<Json> arguments, Session* session, bool& unclean);
  std::optional<Raised> put_item(std::uint64_t call, std::uint64_t& credit, std::string_view json);

  // saves: the session whose state goes along; null: none.
  void reply(std::uint64_t call, Answer answer, bool unclean = false,
             const Session* saves = nullptr);
  // Sends what goes beside a result. Something in the answer: the result is that instead.
  std::optional<Raised> send_attached(std::uint64_t call, const std::vector<Attached>& attached);
  std::optional<Attachments::Room> ask_for_room(std::uint64_t call, std::uint64_t bytes);
  void take_slab(const Received& received);
  void misreply(std::uint64_t call, std::string_view head);
  void send(std::string_view head, std::string_view payload = {});
  [[noreturn]] void supervisor_gone();

  const std::string app_;
  Script script_;
  Chaos chaos_;
  Marks marks_;
  Channel channel_;
  Attachments attachments_;
  const int control_fd_;
  std::map<std::string, Session, std::less<>> sessions_;
  std::vector<std::pair<std::string, std::string>> ended_;        // bounded: kEndedMax
  std::optional<std::pair<std::uint64_t, std::uint64_t>> given_;  // the last RESTORE: call, count
  std::uint64_t replies_ = 0;
  std::uint64_t last_call_ = 0;
};

}  // namespace keelback::fakeworker
