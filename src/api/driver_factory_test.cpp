// A program that links libkeelback alone has no test doubles in it.
#include "api/driver_factory.h"

#include <gtest/gtest.h>

#include "keelback/pool.h"

namespace keelback::api {
namespace {

// Goal: nobody runs in production on the simulator by a slip of a setting.
TEST(DriverFactory, RefusesTheSimulatorWhereNobodyHasLinkedIt) {
  DriverOptions options;
  options.settings.pool.backend = Backend::kSim;
  const auto driver = make_driver(options);
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error(),
            "pool.backend is sim, a test double that is not part of this program; use python");
}

TEST(DriverFactory, ThePublicPoolSaysTheSame) {
  Config config("app.py");
  ASSERT_TRUE(config.set("pool.backend", "sim"));
  const auto pool = Pool::start(config);
  ASSERT_FALSE(pool);
  EXPECT_NE(pool.error().message.find("test double"), std::string::npos);
}

}  // namespace
}  // namespace keelback::api
