// One behaviour suite for every driver: DriverTest runs each test on the simulator, on fake workers
// and on Python. What only one of them can show is tested where that one lives.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "base/settings.h"
#include "keelback/call.h"
#include "keelback/outcome.h"
#include "support/world.h"

namespace keelback::test {

using namespace std::chrono_literals;

class DriverTest : public testing::TestWithParam<Backend> {
 protected:
  static Settings settings() { return World::default_settings(); }
};

inline Call ask(std::string function, std::string payload = "[]", std::string session = {}) {
  Call call;
  call.function = std::move(function);
  call.payload = std::move(payload);
  call.session = std::move(session);
  return call;
}

// What an outcome says, for messages.
inline std::string told(const Outcome& outcome) {
  std::string text = std::string(to_string(outcome.kind)) + " effect " +
                     std::string(to_string(outcome.effect)) + ": " + outcome.message;
  if (outcome.death) text += " [" + outcome.death->cause + " " + outcome.death->stderr_tail + "]";
  return text;
}

#define EXPECT_OUTCOME(outcome, expected_kind, expected_effect)                     \
  do {                                                                              \
    const ::keelback::Outcome& seen_outcome = (outcome);                            \
    EXPECT_EQ(seen_outcome.kind, OutcomeKind::expected_kind) << told(seen_outcome); \
    EXPECT_EQ(seen_outcome.effect, Effect::expected_effect) << told(seen_outcome);  \
  } while (false)

}  // namespace keelback::test
