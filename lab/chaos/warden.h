// The laboratory's end of keelback-warden: whoever wants to inject what lasts arms its undoing here
// first. Not thread-safe; blocks for one round trip to the warden (tens of microseconds).
#pragma once

#include <expected>
#include <map>
#include <string>

#include "chaos/undo.h"
#include "os/fd.h"

namespace keelback::chaos {

class Warden {
 public:
  Warden() = default;
  Warden(Warden&& other) noexcept;
  Warden& operator=(Warden&& other) noexcept;
  ~Warden();  // the warden undoes what is left, goes, and is reaped

  [[nodiscard]] static std::expected<Warden, std::string> start(const std::string& journal);

  // The id of the undoing; only after this may the fault be injected.
  [[nodiscard]] std::expected<std::uint64_t, std::string> arm(Undo undo);
  // What was done. An error: it could not be. Where the warden is gone, the caller does it itself.
  std::expected<std::string, std::string> undo(std::uint64_t id);
  pid_t pid() const { return pid_; }

 private:
  std::expected<std::string, std::string> ask(const std::string& packet);
  os::Fd socket_;
  pid_t pid_ = 0;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, Undo> armed_;
};

}  // namespace keelback::chaos
