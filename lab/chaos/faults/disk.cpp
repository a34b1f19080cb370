// The disk under the session store is full, fails or is slow. Writes go wrong where SQLite hands
// them to the kernel (chaos/bad_disk.h), so that no file system has to be filled: that would need a
// small one of one's own, which takes privileges.
#include <fmt/format.h>

#include <cerrno>

#include "chaos/bad_disk.h"
#include "chaos/fault.h"

namespace keelback::chaos::faults::disk {
namespace {

using enum OutcomeKind;
using enum ParameterType;

std::expected<void, std::string> prepare(WorldOptions& options) {
  options.means.add(std::make_shared<BadDisk>());
  return {};
}

// Every write ends with that error; with none it only takes longer.
template <int kError>
struct Spoilt final : Fault {
  void before() override { hits_ = hits(); }
  void inject(Duration) override {
    if (disk() == nullptr) return no_bite("nobody stands between the store and its disk");
    disk()->spoil({.fault = spec().id, .error = kError, .delay = duration("delay")});
  }
  void prove(Duration at) override {
    if (over) return;  // the store says what it said while the fault was in force
    const std::uint64_t n = hits() - hits_;
    if (n == 0) return;
    if (kError == 0) return bit(at, fmt::format("{} writes of the store were delayed", n));
    const store::Status store = world().info().store;
    if (store.up) return;
    bit(at, fmt::format("{} writes of the store were refused; the pool says of it: {}", n,
                        store.error));
  }
  Evidence undo() override {
    if (disk() != nullptr) disk()->mend();
    return "the store's writes are as they were";
  }

 private:
  BadDisk* disk() const { return world().options().means.find<BadDisk>(); }
  std::uint64_t hits() const { return disk() == nullptr ? 0 : disk()->hits(spec().id); }
  std::uint64_t hits_ = 0;
};

FaultClass of(FaultClass made) {
  if (made.proof.empty()) {
    made.proof =
        "the writes of the store that were refused are counted, and the pool says that its store "
        "is down";
  }
  made.undo = "by the laboratory, in whose process the store writes; it ends with it in any case";
  made.reach = Reach::kPool;
  made.lasts = made.needs_store = true;
  made.where = Where::kProcesses;
  made.prepare = prepare;
  return made;
}

}  // namespace

std::vector<FaultClass> classes() {
  return {
      of({.name = "disk.full",
          .what = "The disk of the session store is full: every write of it ends with ENOSPC.",
          .expected = {kSessionLost},
          .make = make_fault<Spoilt<ENOSPC>>}),
      of({.name = "disk.fails",
          .what = "The disk of the session store fails: every write of it ends with EIO.",
          .expected = {kSessionLost},
          .make = make_fault<Spoilt<EIO>>}),
      of({.name = "disk.slow",
          .what = "The disk of the session store is slow.",
          .proof = "the writes of the store that were delayed are counted",
          .parameters = {{"delay", kDuration, "2ms", "10ms", "30ms", "each write takes longer by"}},
          .expected = {kTimeout, kOverloaded, kSessionBusy},
          .make = make_fault<Spoilt<0>>})};
}

}  // namespace keelback::chaos::faults::disk
