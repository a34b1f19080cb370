// The worker's event loop, as others can notice it: one piece of code has its turn at a time. An
// async function has it, but not while it waits. One that waits in another way holds the loop up.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace keelback::fakeworker {

// Any thread.
class Loop {
 public:
  void take();   // waits for its turn; first come, first served
  void leave();  // ends it, after what was posted meanwhile
  // Runs `call` in a turn: now if nobody has one, else on the thread that has it.
  void post(std::function<void()> call);

 private:
  struct Waiting {
    std::condition_variable ready;
    bool has_turn = false;
  };
  std::mutex mutex_;
  bool taken_ = false;
  std::deque<Waiting*> waiting_;  // on the stacks of their threads
  std::deque<std::function<void()>> posted_;
};

// The turn of a function, from its begin to its end.
class Turn {
 public:
  explicit Turn(Loop& loop) : loop_(loop) { loop_.take(); }
  ~Turn() { loop_.leave(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Loop& loop_;
};

}  // namespace keelback::fakeworker
