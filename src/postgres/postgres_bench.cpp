// How many commits of snapshots a second one node's connection brings to PostgreSQL, beside
// pgbench with an equal update of the same rows of the same server. Starts a server of its own:
//   postgres_bench [SECONDS [BYTES [AT_ONCE]]]     10 2000 32
// Both sides take turns, three times. pgbench has as many clients as we have commits under way, and
// statements that are prepared. Its update has what ours has: the condition, the columns, an
// equally large state. Numbers belong to a machine and a commit; the ratio is what travels.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "postgres/database.h"
#include "support/postgres.h"

namespace keelback::postgres {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kSessions = 1000;
const cluster::Owner kAnn{"ann", 11};

struct Plan {
  int seconds = 10;
  int bytes = 2000;
  int at_once = 32;
};

class Ours {
 public:
  Ours(const std::string& url, const Plan& plan)
      : plan_(plan), state_(std::make_shared<const std::string>(plan.bytes, 's')) {
    auto opened = PostgresDatabase::open(loop_, {.url = url}, nullptr);
    if (!opened) fail(opened.error());
    database_ = *std::move(opened);
    cluster::Join join;
    join.node.name = kAnn.node;
    join.node.incarnation = kAnn.incarnation;
    ask(join);
    for (int i = 0; i < kSessions; ++i) {
      ask(cluster::Claim{name(i), kAnn, 100, 1, {}, true, {}});
      commit(i);
    }
    while (under_way_ > 0) loop_.run_one();
  }
  static std::string name(int session) { return fmt::format("session-{:04}", session); }

  double commits_a_second() {
    const auto begin = Clock::now();
    const auto end = begin + std::chrono::seconds(plan_.seconds);
    const std::uint64_t before = done_;
    int next = 0;
    while (Clock::now() < end || under_way_ > 0) {
      while (under_way_ < plan_.at_once && Clock::now() < end) commit(next++ % kSessions);
      loop_.run_one();
    }
    return static_cast<double>(done_ - before) /
           std::chrono::duration<double>(Clock::now() - begin).count();
  }

 private:
  [[noreturn]] static void fail(const std::string& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(1);
  }
  void ask(cluster::Request request) {
    bool answered = false;
    database_->ask(std::move(request), 30s, [&](cluster::Reply reply) {
      if (const auto* none = std::get_if<cluster::NoReply>(&reply)) fail(none->reason);
      answered = true;
    });
    while (!answered) loop_.run_one();
  }
  void commit(int session) {
    cluster::Commit commit;
    commit.session = name(session);
    commit.birth = 1;
    commit.epoch = 1;
    commit.token = 100;
    commit.after = numbers_[static_cast<std::size_t>(session)]++;
    commit.number = commit.after + 1;
    commit.state = cluster::State{1, state_};
    commit.digest = "digest";
    commit.owner = kAnn;
    ++under_way_;
    database_->ask(commit, 60s, [this](cluster::Reply reply) {
      --under_way_;
      ++done_;
      const auto* written = std::get_if<cluster::Written>(&reply);
      if (written == nullptr || !written->done) fail("a commit failed");
    });
  }

  const Plan plan_;
  std::shared_ptr<const std::string> state_;  // shared by all commits
  boost::asio::io_context loop_;
  std::unique_ptr<PostgresDatabase> database_;
  std::vector<std::uint64_t> numbers_ = std::vector<std::uint64_t>(kSessions, 0);
  std::uint64_t done_ = 0;
  int under_way_ = 0;
};

// One update as ours, of rows of its own in the same table: the number stays the same, so that its
// condition holds whoever was there before.
double pgbench_a_second(test::Postgres& server, const std::string& script, const Plan& plan) {
  const std::string command = fmt::format(
      "PGPASSWORD={} {}/pgbench -n -M prepared -c {} -j 2 -T {} -f {} -h 127.0.0.1 -p {} -U {} "
      "bench 2>&1",
      test::Postgres::kPassword, server.programs(), plan.at_once, plan.seconds, script,
      server.port(), test::Postgres::kUser);
  FILE* pipe = ::popen(command.c_str(), "r");
  std::string told;
  char part[4096];
  while (const std::size_t n = std::fread(part, 1, sizeof part, pipe)) told.append(part, n);
  ::pclose(pipe);
  const auto at = told.find("tps = ");
  if (at == std::string::npos) {
    std::fprintf(stderr, "%s", told.c_str());
    std::exit(1);
  }
  return std::strtod(told.c_str() + at + 6, nullptr);
}

int run(const Plan& plan) {
  std::string missing;
  const auto server = test::Postgres::start(missing);
  if (!server) {
    std::fprintf(stderr, "%s\n", missing.c_str());
    return 1;
  }
  server->setting("fsync", "on");
  server->create("bench");
  Ours ours(server->url("bench"), plan);
  server->query("bench",
                "INSERT INTO keelback.sessions SELECT convert_to('pgbench-' || i, 'UTF8'), birth, "
                "epoch, number, owner_node, owner_incarnation, token, mode, exposed, fate, "
                "opened_at, used_at, digest, schema, format, state, answer FROM keelback.sessions, "
                "generate_series(1, 1000) i WHERE session = 'session-0000'");
  server->query("bench", "VACUUM ANALYZE keelback.sessions");
  std::string script = "/tmp/keelback-postgres-bench-XXXXXX";
  ::close(::mkstemp(script.data()));
  std::ofstream(script) << fmt::format(
      "\\set i random(1, {})\n"
      "UPDATE keelback.sessions SET epoch = 1, number = 1, format = 1, "
      "state = decode(repeat('73', {}), 'hex'), exposed = false, digest = 'digest', "
      "used_at = clock_timestamp(), answer = NULL, fate = 0, schema = 1 "
      "WHERE session = convert_to('pgbench-' || :i, 'UTF8') AND birth = 1 AND token = 100 "
      "AND epoch <= 1 AND number = 1;\n",
      kSessions, plan.bytes);
  std::vector<double> ratios;
  for (int turn = 0; turn < 3; ++turn) {
    const double theirs = pgbench_a_second(*server, script, plan);
    const double own = ours.commits_a_second();
    ratios.push_back(own / theirs);
    fmt::print("keelback {:8.0f} commits/s   pgbench {:8.0f} updates/s   ratio {:.2f}\n", own,
               theirs, ratios.back());
  }
  ::unlink(script.c_str());
  std::ranges::sort(ratios);
  fmt::print("{} bytes, {} at once: median ratio {:.2f}\n", plan.bytes, plan.at_once, ratios[1]);
  return 0;
}

}  // namespace
}  // namespace keelback::postgres

int main(int count, char** words) {
  keelback::postgres::Plan plan;
  if (count > 1) plan.seconds = std::max(1, std::atoi(words[1]));
  if (count > 2) plan.bytes = std::max(0, std::atoi(words[2]));
  if (count > 3) plan.at_once = std::max(1, std::atoi(words[3]));
  return keelback::postgres::run(plan);
}
