// An Asio loop and the one thread that runs it. Whoever makes drivers owns the loop that they and
// the server run on; several drivers may share one. It must outlive all of them.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

#include "os/handover.h"

namespace keelback::host {

class EventLoop {
 public:
  EventLoop();   // its thread runs
  ~EventLoop();  // not on its thread; what it has not run by now, it never runs
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  boost::asio::io_context& context() { return context_; }
  bool on_its_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
  // Runs `work` on the loop's thread, behind what waits there, and returns when it has run. On that
  // thread itself: at once.
  template <class Work>
  void run(Work&& work) {
    if (on_its_thread()) return work();
    os::Handover<bool> over;
    boost::asio::post(context_, [&] {
      work();
      over.put(true);
    });
    over.take();
  }

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_open_{
      context_.get_executor()};
  // With the first timer Asio takes its descriptors: here, and not in the midst of a pool's life.
  boost::asio::steady_timer first_timer_{context_};
  std::thread thread_;
};

// Keeps handlers that wait on the loop from running after their owner's end. The owner's end() and
// the handlers run on the loop; guard() may be called from any thread.
class Alive {
 public:
  template <class Handler>
  auto guard(Handler handler) const {
    return [alive = token_, handler = std::move(handler)](auto&&... arguments) mutable {
      if (*alive) handler(std::forward<decltype(arguments)>(arguments)...);
    };
  }
  void end() { *token_ = false; }

 private:
  std::shared_ptr<bool> token_ = std::make_shared<bool>(true);  // shared with the handlers
};

}  // namespace keelback::host
