// Answers of a worker, and greetings of starting ones, go wrong on their way to the pool. The
// interposer stands between them (chaos/interposer.h).
#include <fmt/format.h>

#include <algorithm>

#include "chaos/fault.h"
#include "chaos/interposer.h"

namespace keelback::chaos::faults::channel {
namespace {

using enum OutcomeKind;
using enum ParameterType;

std::expected<void, std::string> prepare(WorldOptions& options) {
  auto started = Interposer::start();
  if (!started) return std::unexpected("no interposer: " + started.error());
  auto& between = options.means.add(std::shared_ptr<Interposer>(std::move(*started)));
  options.interpose = [&between](WorkerId worker, os::Fd theirs) {
    return between.stand_between(worker, std::move(theirs));
  };
  return {};
}

// Its proof is that the interposer has hit something.
struct Between : Fault {
  void before() override { hits_ = hits(); }
  void prove(Duration at) override {
    if (const std::uint64_t n = hits() - hits_; n > 0) bit(at, said(n));
  }

 protected:
  Interposer* between() const { return world().options().means.find<Interposer>(); }
  virtual std::string said(std::uint64_t n) const = 0;

 private:
  std::uint64_t hits() const { return between() == nullptr ? 0 : between()->hits(spec().id); }
  std::uint64_t hits_ = 0;
};

template <Misdeed kWhat>
struct Answers final : Between {
  void inject(Duration) override {
    const auto number = [this](std::string_view name) {
      return static_cast<std::uint32_t>(count(name));
    };
    const ChannelOrder order{.fault = spec().id,
                             .what = kWhat,
                             .delay = duration("delay"),
                             .bytes = std::max(1U, number("bytes")),
                             .answers = number("answers")};
    begun(each_target([&](const host::WorkerInfo& worker) -> Evidence {
      if (between() == nullptr) return std::unexpected("nobody stands between");
      if (!between()->order(worker.worker, order)) return std::unexpected("the worker is gone");
      return "the order is given";
    }));
  }
  Evidence undo() override {
    if (between() != nullptr) between()->lift(spec().id);
    return "the order is taken back";
  }

 private:
  std::string said(std::uint64_t n) const override {
    return fmt::format("the interposer counted {} answers hit", n);
  }
};

template <Misdeed kWhat>
struct Greetings final : Between {
  void inject(Duration) override {
    if (between() == nullptr) return no_bite("nobody stands between");
    between()->order_start({.fault = spec().id, .what = kWhat});
  }
  Evidence undo() override {
    if (between() != nullptr) between()->lift_start(spec().id);
    return "the order is taken back";
  }

 private:
  std::string said(std::uint64_t n) const override {
    return fmt::format("{} starting workers obeyed", n);
  }
};

FaultClass of(std::string_view name, std::string_view what) {
  return {.name = name,
          .what = what,
          .undo = "the order is taken back; it ends with the laboratory in any case",
          .lasts = true,
          .where = Where::kProcesses,
          .prepare = prepare};
}

template <Misdeed kWhat>
FaultClass answers(std::string_view name, std::string_view what,
                   std::vector<Parameter> parameters = {}) {
  FaultClass made = of(name, what);
  made.proof = "the interposer between worker and pool counted the answers that it hit";
  made.parameters = std::move(parameters);
  made.expected = {kWorkerDied,  kSessionLost, kTimeout, kOverloaded,
                   kSessionBusy, kCircuitOpen, kNotReady};
  made.make = make_fault<Answers<kWhat>>;
  return made;
}

template <Misdeed kWhat>
FaultClass greetings(std::string_view name, std::string_view what) {
  FaultClass made = of(name, what);
  made.proof = "the interposer between worker and pool counted the greetings that it hit";
  made.reach = Reach::kCapacity;
  made.hits_starts = true;
  made.expected = {kTimeout, kOverloaded, kNotReady, kSessionLost, kWorkerDied};
  made.make = make_fault<Greetings<kWhat>>;
  return made;
}

}  // namespace

std::vector<FaultClass> classes() {
  using enum Misdeed;
  const Parameter some = {"answers", kCount, "1", "3", "0", "so many of each worker; 0: all"};
  return {
      answers<kGarbage>("channel.garbage", "Instead of an answer come bytes that are no frame."),
      answers<kHeader>("channel.header", "An answer's header names a type that does not exist."),
      answers<kHalfClose>("channel.half_frame", "Half an answer, then the end of the socket."),
      answers<kHalfStall>("channel.half_stall", "Half an answer, then silence."),
      answers<kClose>("channel.close", "The end of the socket instead of an answer."),
      answers<kDuplicate>("channel.duplicate", "Answers come twice.", {some}),
      answers<kStale>("channel.zombie", "An old call's answer comes again before a new one.",
                      {some}),
      answers<kUnknown>("channel.unknown", "Answers come to calls that nobody made.", {some}),
      answers<kLate>("channel.late", "Answers come late.",
                     {some, {"delay", kDuration, "100ms", "1s", "3s", "so late"}}),
      answers<kDrip>("channel.drip", "Answers come in small pieces.",
                     {some,
                      {"bytes", kCount, "8", "4", "1", "in a piece"},
                      {"delay", kDuration, "1ms", "2ms", "5ms", "between pieces"}}),
      answers<kDrop>("channel.drop", "Answers get lost.", {some}),
      greetings<kVersion>("channel.bad_version", "A starting worker speaks another version."),
      greetings<kHalfGreet>("channel.half_greeting", "A starting worker sends half a greeting."),
      greetings<kNoGreeting>("channel.no_greeting", "A starting worker says nothing."),
  };
}

}  // namespace keelback::chaos::faults::channel
