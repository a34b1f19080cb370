// The database of a cluster, as a test asks it: the model, or PostgreSQL, directly or through
// pgbouncer. Several clients of one database, each as a node has it.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/time.h"
#include "cluster/database.h"
#include "support/postgres.h"
#include "support/waiting.h"

namespace keelback::test {

using namespace std::chrono_literals;

// Runs the loop on this thread until the condition holds; false: it does not in time.
inline bool run_until(boost::asio::io_context& loop, const std::function<bool()>& condition,
                      std::chrono::nanoseconds limit = 60s) {
  const auto end = std::chrono::steady_clock::now() + stretch() * limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    loop.restart();
    loop.run_one_for(20ms);
  }
  return true;
}

// Asks, and waits for the answer.
inline cluster::Reply ask_and_wait(boost::asio::io_context& loop, cluster::Database& database,
                                   cluster::Request request, Duration patience = 30s) {
  // Shared with an answer that comes after the test has given up.
  const auto reply = std::make_shared<std::optional<cluster::Reply>>();
  const std::string name(cluster::name_of(request));
  database.ask(std::move(request), stretch() * patience,
               [reply](cluster::Reply got) { *reply = std::move(got); });
  EXPECT_TRUE(run_until(loop, [&] { return reply->has_value(); })) << name << " has no answer";
  return reply->has_value() ? *std::move(*reply) : cluster::NoReply{};
}

// The one server of this program, started when it is first asked for. nullptr: it is not
// installed; then the test is skipped with `missing`.
Postgres* shared_postgres(std::string& missing);

class DatabaseUnderTest {
 public:
  virtual ~DatabaseUnderTest() = default;
  virtual cluster::Database& client(int number) = 0;
  // Lets this time pass for everything that is stored.
  virtual void pass(std::chrono::seconds time) = 0;
  virtual boost::asio::io_context& loop() = 0;
};

// `kind`: "model", "direct", "pooled". Empty, with the reason: PostgreSQL is not installed.
std::unique_ptr<DatabaseUnderTest> make_database(const std::string& kind, std::string& missing);

}  // namespace keelback::test
