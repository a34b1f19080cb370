// The host when system calls fail: the 1st, the 2nd, ... until a whole life passes without reaching
// the failing one. Whatever fails, every call has an outcome, nothing hangs and nothing is left.
#include <cerrno>
#include <future>

#include "host/host_fixture.h"
#include "os/result.h"

namespace keelback::host {
namespace {

// One life: start, a blocking call, an asynchronous one, a session, stop. Returns whether the calls
// succeeded.
bool live(const HostConfig& config) {
  auto host = Host::start(config);
  if (!host) return false;
  Driver& driver = **host;
  const Outcome first = driver.call({.function = "twice", .payload = "[2]", .deadline = 20s});
  std::promise<Outcome> promise;
  driver.submit({.function = "twice", .payload = "[3]", .session = "s", .deadline = 20s},
                [&](Outcome&& outcome) { promise.set_value(std::move(outcome)); });
  const Outcome second = promise.get_future().get();
  for (const Outcome* outcome : {&first, &second}) {
    if (outcome->ok()) continue;
    EXPECT_TRUE(outcome->kind == OutcomeKind::kWorkerDied ||
                outcome->kind == OutcomeKind::kSessionLost ||
                outcome->kind == OutcomeKind::kNotReady)
        << to_string(outcome->kind) << outcome->message;
  }
  return first.payload == "4" && second.payload == "6";
}

class HostFaultsTest : public HostTest, public ::testing::WithParamInterface<ZygoteMode> {};

TEST_P(HostFaultsTest, WhicheverSystemCallFailsNothingHangsAndNothingIsLeft) {
  config_.settings.pool.workers = 1;
  config_.settings.workers.zygote = GetParam();
  config_.settings.workers.start_timeout = 5s;
  config_.sweep = false;  // hundreds of calls that matter to nobody
  write_app(kApp);
  config_.app = path();
  int lives = 0;
  for (long nth = 1;; ++nth, ++lives) {
    SCOPED_TRACE(nth);
    const auto begin = std::chrono::steady_clock::now();
    os::fault::fail_nth(nth, EMFILE);
    const bool ok = live(config_);
    const bool reached = os::fault::passed() >= nth;
    os::fault::fail_nth(0, 0);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
    leaks_.expect_none();
    if (HasFailure()) break;
    if (!reached) {
      EXPECT_TRUE(ok);
      break;
    }
  }
  EXPECT_GT(lives, 20) << "the failures reached the calls";
}

INSTANTIATE_TEST_SUITE_P(Modes, HostFaultsTest,
                         ::testing::Values(ZygoteMode::kAuto, ZygoteMode::kOff),
                         [](const auto& mode) {
                           return mode.param == ZygoteMode::kAuto ? "Zygote" : "Exec";
                         });

}  // namespace
}  // namespace keelback::host
