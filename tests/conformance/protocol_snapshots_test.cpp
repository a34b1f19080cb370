// A session's state on its way out of a worker and into another: SAVED, SAVE, SNAPSHOT, RESTORE.
#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;
using wire::StateFormat;

Ask count(std::uint32_t epoch, bool opens) {
  return {.function = "counter",
          .session = "ann é",
          .birth = kBirth,
          .epoch = epoch,
          .opens = opens,
          .saves = true};
}

void give(Peer& peer, std::uint64_t call, StateFormat format, std::string_view state) {
  std::string bytes;
  wire::append_restore_head(bytes, call, format, state.size());
  peer.send(bytes.append(state));
}

struct Taken {
  wire::SnapshotMessage message;
  std::string body;
};
Taken save(Peer& peer, const std::string& session, std::uint64_t birth, std::uint32_t epoch) {
  std::string bytes;
  EXPECT_TRUE(wire::append_save(bytes, {.birth = birth, .epoch = epoch, .session = session}));
  peer.send(bytes);
  auto answer = peer.next();
  if (!answer || answer->type() != wire::Type::kSnapshot) {
    ADD_FAILURE() << "no SNAPSHOT";
    return {};
  }
  Taken taken{{}, std::move(answer->body)};
  const auto decoded = wire::decode_snapshot({answer->header, taken.body});
  EXPECT_TRUE(decoded) << "a SNAPSHOT that makes no sense";
  if (decoded) taken.message = *decoded;
  EXPECT_EQ(taken.message.birth, birth);
  EXPECT_EQ(taken.message.epoch, epoch);
  EXPECT_EQ(taken.message.session, session);
  return taken;
}

// Goal: one frame has the answer and the state after it, whatever the answer is.
TEST_P(Protocol, SendsTheStateWithTheAnswerThatMadeIt) {
  auto peer = ready();
  Reply reply = peer->call(count(1, true));
  expect_result(reply, 1);
  EXPECT_TRUE(reply.saved);
  EXPECT_EQ(reply.format, StateFormat::kJson);
  EXPECT_EQ(reply.state, R"({"calls":1})");
  EXPECT_EQ(peer->mark(wire::kMarkEnded), reply.call) << "written before the answer was sent";

  Ask fails = count(1, false);
  fails.function = "fail";
  fails.payload = R"(["no"])";
  reply = peer->call(fails);
  expect_error(reply, ErrorKind::kError, "ValueError", "no");
  EXPECT_TRUE(reply.saved);
  EXPECT_EQ(reply.state, R"({"calls":1})");

  Ask streams = count(1, false);
  streams.function = "items";
  streams.payload = "[3]";
  streams.stream = true;
  reply = peer->call(streams);
  EXPECT_EQ(reply.type, wire::Type::kEnd);
  EXPECT_EQ(reply.items.size(), 3u);
  EXPECT_TRUE(reply.saved);
}

// Goal: where nothing ran there is no state to speak of, and where it cannot be written the answer
// still comes, with the reason.
TEST_P(Protocol, SaysWhyAStateCannotBeSent) {
  auto peer = ready();
  Ask wrong = count(1, true);
  wrong.payload = "[1,2,3]";
  Reply reply = peer->call(wrong);
  expect_error(reply, ErrorKind::kBadRequest, "TypeError");
  EXPECT_FALSE(reply.saved);
  wrong = count(7, false);
  reply = peer->call(wrong);
  expect_error(reply, ErrorKind::kError, "keelback.SessionNotHere");
  EXPECT_FALSE(reply.saved);
  peer->set_mark(wire::kMarkCancel, peer->next_call());
  reply = peer->call(count(1, true));
  expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled", "before it started");
  EXPECT_FALSE(reply.saved);

  Ask spoils = count(1, true);
  spoils.function = "spoil";
  reply = peer->call(spoils);
  expect_result(reply, nullptr);
  EXPECT_TRUE(reply.saved);
  EXPECT_EQ(reply.format, StateFormat::kNone);
  EXPECT_THAT(reply.state, HasSubstr("object"));
}

// Goal: a snapshot over the limit is none, and the limit is live.
TEST_P(Protocol, SendsNoStateAboveTheLimit) {
  auto peer = ready();
  peer->set_mark(wire::kMarkSnapshotMax, 10);
  const Reply reply = peer->call(count(1, true));
  expect_result(reply, 1);
  EXPECT_EQ(reply.format, StateFormat::kNone);
  EXPECT_THAT(reply.state, HasSubstr("sessions.snapshot_max is 10"));
  peer->set_mark(wire::kMarkSnapshotMax, 11);
  EXPECT_EQ(peer->call(count(1, false)).state, R"({"calls":2})");
}

// Goal: the state that was given is the state that the call finds, in the epoch that it names; and
// the session is from then on what one that opened here is.
TEST_P(Protocol, RestoresTheStateThatWasGiven) {
  auto peer = ready();
  Ask restores = count(5, false);
  restores.restores = true;
  give(*peer, peer->next_call(), StateFormat::kJson, R"({"calls":41})");
  Reply reply = peer->call(restores);
  expect_result(reply, 42);
  EXPECT_EQ(reply.state, R"({"calls":42})");
  expect_result(peer->call(count(5, false)), 43);
  expect_error(peer->call(count(4, false)), ErrorKind::kError, "keelback.SessionNotHere");
}

// Goal: a call that does not get to run leaves the given state untouched: it can be saved as it is,
// and given again.
TEST_P(Protocol, KeepsTheGivenStateUntilACallRuns) {
  auto peer = ready();
  Ask wrong = count(5, false);
  wrong.restores = true;
  wrong.payload = "[1,2,3]";
  give(*peer, peer->next_call(), StateFormat::kJson, R"({"calls":41})");
  expect_error(peer->call(wrong), ErrorKind::kBadRequest, "TypeError");
  EXPECT_EQ(save(*peer, "ann é", kBirth, 5).message.state, R"({"calls":41})");
  expect_result(peer->call(count(5, false)), 42);
}

// Goal: a call that is to restore and has nothing to restore from is an error, never an empty
// state.
TEST_P(Protocol, RestoresNothingWithoutAState) {
  auto peer = ready();
  Ask restores = count(5, false);
  restores.restores = true;
  expect_error(peer->call(restores), ErrorKind::kError, "keelback.SessionNotHere");
  give(*peer, peer->next_call() + 1, StateFormat::kJson, R"({"calls":41})");
  expect_error(peer->call(restores), ErrorKind::kError, "keelback.SessionNotHere", "restore");
}

// Goal: between calls the state of any session can be asked for; one that is not there is not made
// up.
TEST_P(Protocol, AnswersWhatASessionsStateIs) {
  auto peer = ready();
  expect_result(peer->call(count(1, true)), 1);
  Taken taken = save(*peer, "ann é", kBirth, 1);
  EXPECT_EQ(taken.message.format, StateFormat::kJson);
  EXPECT_EQ(taken.message.state, R"({"calls":1})");
  EXPECT_EQ(save(*peer, "ann é", kBirth, 2).message.format, StateFormat::kNone);
  EXPECT_EQ(save(*peer, "ann é", kBirth + 1, 1).message.format, StateFormat::kNone);
  taken = save(*peer, "bob", kBirth, 1);
  EXPECT_EQ(taken.message.format, StateFormat::kNone);
  EXPECT_FALSE(taken.message.state.empty());
  expect_result(peer->call(count(1, false)), 2);
}

}  // namespace
}  // namespace keelback::conformance
