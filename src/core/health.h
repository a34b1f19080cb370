// Workers that live and are broken: how the pool hears of it, and how it replaces them. One
// replacement is tried at a time. Until it has been, the workers that are known to be broken take
// no calls. If it fails too, they serve on: the fault is not theirs alone.
//
// Owns: which slot's replacement is tried, and the pause after one that failed.
// Asks: Starts for the replacement; Workers to occupy the broken ones and to let them go on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/event.h"
#include "core/frame.h"
#include "core/timers.h"
#include "core/worker_table.h"

namespace keelback::core {

class Starts;
class Workers;

class Health {
 public:
  Health(Frame& frame, Starts& starts, Workers& workers)
      : frame_(frame), starts_(starts), workers_(workers) {}
  Health(const Health&) = delete;
  Health& operator=(const Health&) = delete;

  void on(const WorkerChecked& event);
  // Whether the application has health functions.
  void announce(bool any);

  // ---- asking
  bool checks() const;
  // At once if it is free, else as soon as it is.
  void want_check(Worker& worker);
  void check_after_error(Worker& worker);
  void schedule_check(Worker& worker);
  // The setting or the application has changed.
  void schedule_checks();
  // A worker that starts in place of a broken one has to prove itself: true if it is asked first.
  bool prove(Worker& worker);

  // ---- replacing
  // It is broken: "fails its health check: …".
  void note_sick(Worker& worker, std::string why);
  // The next broken worker's turn may have come.
  void advance();
  void replacement_failed(Slot& slot, std::string_view why);
  void replacement_serves(Slot& slot, const Worker& old);
  // The pool shuts down: nobody is replaced any more.
  void stop();
  // The pause after a replacement that failed.
  const Timer& pause() const { return timer_; }

 private:
  void begin_check(Worker& worker);
  void withhold(Worker& worker);
  void let_serve(Worker& worker);
  void let_all_serve();

  Frame& frame_;
  Starts& starts_;
  Workers& workers_;
  bool announced_ = false;           // the application has health functions
  Slot* healing_ = nullptr;          // whose broken worker's replacement is being tried
  std::uint32_t heal_failures_ = 0;  // replacements that failed, in a row
  std::uint32_t heal_young_ = 0;  // broken workers that had been ready for a short time, in a row
  Timer timer_{TimerKind::kHealing};
};

}  // namespace keelback::core
