// Workers that are replaced though they are well: worn, too old, interrupted, asked for by an
// operator, or with code that has been reloaded.
//
// Owns: the count of reloads.
// Asks: Starts for the replacement; Workers to drain the old one.
#pragma once

#include <cstdint>
#include <string>

#include "core/event.h"
#include "core/frame.h"
#include "core/worker_table.h"

namespace keelback::core {

class Starts;
class Workers;

class Replacements {
 public:
  Replacements(Frame& frame, Starts& starts, Workers& workers)
      : frame_(frame), starts_(starts), workers_(workers) {}
  Replacements(const Replacements&) = delete;
  Replacements& operator=(const Replacements&) = delete;

  void on(const RecycleRequested& event);
  void on(const ReloadRequested& event);

  // How many reloads were asked for: what code a worker has that starts now.
  std::uint32_t code() const { return code_; }
  // A replacement is started; when it is ready the worker drains. One that still starts is replaced
  // once it is ready.
  void recycle(Worker& worker);
  // Its code was interrupted at an arbitrary line.
  void replace_interrupted(Worker& worker);
  // A call in it does not end: the others may finish.
  void doom(Worker& worker);
  // The reload may be over: says so.
  void finish_reload();
  // A start has failed; whoever waits for a reload hears why.
  void note_failed_start(std::string why);

 private:
  void replace_now(Worker& worker);
  bool serves_old_code() const;

  Frame& frame_;
  Starts& starts_;
  Workers& workers_;
  std::uint32_t code_ = 0;
  std::uint32_t reloaded_ = 0;  // of those, the last one that is over
};

}  // namespace keelback::core
