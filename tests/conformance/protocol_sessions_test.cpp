// Sessions as a worker keeps them: opened by a flag, fenced by birth and epoch, ended on order.
#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;

Ask count(const std::string& session, std::uint64_t birth, std::uint32_t epoch, bool opens) {
  return {
      .function = "counter", .session = session, .birth = birth, .epoch = epoch, .opens = opens};
}

void end(Peer& peer, const std::string& session, std::uint64_t birth, wire::SessionEnd reason) {
  std::string bytes;
  ASSERT_TRUE(
      wire::append_session_end(bytes, {.birth = birth, .reason = reason, .session = session}));
  peer.send(bytes);
}

TEST_P(Protocol, KeepsTheStateOfEachSession) {
  auto peer = ready();
  expect_result(peer->call(count("ann", kBirth, 1, true)), 1);
  expect_result(peer->call(count("bob é", 7, 3, true)), 1);
  for (int i = 2; i <= 5; ++i) expect_result(peer->call(count("ann", kBirth, 1, false)), i);
  expect_result(peer->call(count("bob é", 7, 3, false)), 2);
  expect_result(peer->call({.function = "peek", .session = "ann", .birth = kBirth, .epoch = 1}), 5);
}

TEST_P(Protocol, HasNoSessionInAStatelessCall) {
  auto peer = ready();
  expect_error(peer->call("counter", Json::array()), ErrorKind::kError, "RuntimeError", "session");
}

// Goal: another birth or epoch, or a session that was never opened here, is an error in which
// nothing ran; never a silently new state.
TEST_P(Protocol, FencesASessionByBirthAndEpoch) {
  auto peer = ready();
  expect_result(peer->call(count("ann", kBirth, 2, true)), 1);
  const auto started = peer->mark(wire::kMarkStarted);
  for (const Ask& wrong : {count("ann", kBirth, 1, false), count("ann", kBirth, 3, false),
                           count("ann", kBirth + 1, 2, false), count("bob", kBirth, 2, false)}) {
    expect_error(peer->call(wrong), ErrorKind::kError, "keelback.SessionNotHere", "session");
  }
  EXPECT_EQ(peer->mark(wire::kMarkStarted), started);
  expect_result(peer->call(count("ann", kBirth, 2, false)), 2);
}

TEST_P(Protocol, StartsAnEpochWithAnEmptyStateInPlaceOfTheOldOne) {
  auto peer = ready();
  expect_result(peer->call(count("ann", kBirth, 1, true)), 1);
  expect_result(peer->call(count("ann", kBirth, 2, true)), 1);
  expect_result(peer->call(count("ann", kBirth, 2, false)), 2);
  expect_result(peer->call(count("ann", kBirth + 1, 1, true)), 1);
  expect_result(peer->call("ended", Json::array()),
                Json::parse(R"([["ann","lost"],["ann","lost"]])"));
}

// Goal: a call whose arguments do not bind opens nothing that user code saw; the next one with the
// flag still opens the same epoch.
TEST_P(Protocol, OpensTheSessionAgainWhenTheOpeningCallDidNotRun) {
  auto peer = ready();
  Ask ask = count("ann", kBirth, 1, true);
  ask.payload = "[1,2,3]";
  expect_error(peer->call(ask), ErrorKind::kBadRequest, "TypeError");
  expect_result(peer->call(count("ann", kBirth, 1, true)), 1);
  expect_result(peer->call("ended", Json::array()), Json::array());
}

TEST_P(Protocol, EndsASessionAndTellsWhy) {
  auto peer = ready();
  const char* reasons[] = {"expired", "ended", "lost", "evicted", "drained", "moved"};
  Json expected = Json::array();
  for (std::uint8_t reason = 0; reason < 6; ++reason) {
    const std::string id = "s" + std::to_string(reason);
    expect_result(peer->call(count(id, kBirth, 1, true)), 1);
    end(*peer, id, kBirth, static_cast<wire::SessionEnd>(reason));
    expect_error(peer->call(count(id, kBirth, 1, false)), ErrorKind::kError,
                 "keelback.SessionNotHere");
    expected.push_back({id, reasons[reason]});
  }
  expect_result(peer->call("ended", Json::array()), expected);
  expect_result(peer->call(count("s0", kBirth + 1, 1, true)), 1);
}

TEST_P(Protocol, IgnoresTheEndOfASessionThatIsNotThatOne) {
  auto peer = ready();
  expect_result(peer->call(count("ann", kBirth, 1, true)), 1);
  end(*peer, "ann", kBirth + 1, wire::SessionEnd::kEnded);
  end(*peer, "bob", kBirth, wire::SessionEnd::kEnded);
  end(*peer, "", kBirth, wire::SessionEnd::kEnded);
  expect_result(peer->call(count("ann", kBirth, 1, false)), 2);
  expect_result(peer->call("ended", Json::array()), Json::array());
}

TEST_P(Protocol, TakesASessionIdOfFullLength) {
  auto peer = ready();
  const std::string id(256, 'i');
  expect_result(peer->call(count(id, kBirth, 1, true)), 1);
  expect_result(peer->call(count(id, kBirth, 1, false)), 2);
}

}  // namespace
}  // namespace keelback::conformance
