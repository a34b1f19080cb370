// Calls out of a running call: NESTED, NESTED_CANCEL, OUTCOME.
#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;
using wire::NestedTarget;

// Its strings are the message's.
struct Asked {
  std::optional<Message> message;
  wire::NestedMessage nested;
};

class Nested : public Protocol {
 protected:
  // The next frame, which is a NESTED.
  static Asked asked(Peer& peer) {
    Asked asked{.message = peer.next(), .nested = {}};
    EXPECT_TRUE(asked.message);
    if (!asked.message) return asked;
    EXPECT_EQ(asked.message->type(), wire::Type::kNested)
        << wire::to_string(asked.message->type()) << " " << asked.message->body;
    const auto nested = wire::decode_nested({asked.message->header, asked.message->body});
    EXPECT_TRUE(nested);
    if (nested) asked.nested = *nested;
    return asked;
  }
  static void tell(Peer& peer, std::uint64_t parent, std::uint64_t request, bool ok,
                   const std::string& json) {
    std::string frame;
    wire::append_outcome_head(frame,
                              {.parent = parent, .request = request, .ok = ok, .json = json});
    peer.send(frame + json);
  }
};

TEST_P(Nested, SaysWhatTheCodeAsksForAndReturnsWhatItIsTold) {
  auto peer = ready();
  auto call = peer->send_call(
      {.function = "relay",
       .payload = R"({"function":"echo","arguments":{"value":5},"session":"ann","timeout":1.5})"});
  Asked first = asked(*peer);
  EXPECT_EQ(first.nested.parent, call);
  EXPECT_NE(first.nested.request, 0u);
  EXPECT_EQ(first.nested.timeout_ns, 1'500'000'000);
  EXPECT_EQ(first.nested.target, NestedTarget::kFunction);
  EXPECT_EQ(first.nested.name, "echo");
  EXPECT_EQ(first.nested.session, "ann");
  EXPECT_EQ(first.nested.payload, R"({"value":5})");
  EXPECT_EQ(peer->mark(wire::kMarkStarted), call);
  tell(*peer, call, first.nested.request, true, R"({"n":5})");
  Reply reply = peer->reply();
  EXPECT_EQ(reply.call, call);
  expect_result(reply, {{"n", 5}});
  EXPECT_FALSE(reply.unclean);

  call = peer->send_call({.function = "ask_host", .payload = R"(["lookup",["a",1]])"});
  const Asked second = asked(*peer);
  EXPECT_EQ(second.nested.parent, call);
  EXPECT_NE(second.nested.request, first.nested.request) << "no number is used twice";
  EXPECT_EQ(second.nested.timeout_ns, 0);
  EXPECT_EQ(second.nested.target, NestedTarget::kHost);
  EXPECT_EQ(second.nested.name, "lookup");
  EXPECT_EQ(second.nested.session, "");
  EXPECT_EQ(Json::parse(second.nested.payload), Json::parse(R"(["a",1])"));
  tell(*peer, call, second.nested.request, true, "null");
  expect_result(peer->reply(), nullptr);
}

TEST_P(Nested, SpeaksTheWorkedBytes) {
  auto peer = ready();
  for (const int block : {6, 8}) {
    peer->send_packets({worked_bytes(block)});
    const auto answer = peer->next();
    ASSERT_TRUE(answer);
    char header[wire::kHeaderBytes];
    wire::write_header(header, answer->header);
    EXPECT_EQ(std::string(header, sizeof header) + answer->body, worked_bytes(block + 1));
  }
}

TEST_P(Nested, RaisesWhatIsNotOk) {
  auto peer = ready();
  const struct {
    const char* json;
    const char* type;
    const char* message;
  } cases[] = {
      {R"({"outcome":"overloaded","effect":"none","reason":"would_deadlock","message":"It would."})",
       "keelback.CallFailed", "overloaded (would_deadlock): It would."},
      {R"({"outcome":"error","effect":"done","reason":"","message":"ValueError: so","call":17,
           "error":{"type":"ValueError","message":"so","traceback":""}})",
       "keelback.CallFailed", "error: ValueError: so"},
      {R"({"outcome":"host_gone","effect":"none","reason":"","message":"Nobody provides it."})",
       "keelback.HostGone", "host_gone: Nobody provides it."},
  };
  for (const auto& each : cases) {
    const auto call = peer->send_call({.function = "ask_host", .payload = R"(["lookup"])"});
    const Asked nested = asked(*peer);
    tell(*peer, call, nested.nested.request, false, each.json);
    expect_error(peer->reply(), ErrorKind::kError, each.type, each.message);
  }
}

// Goal: a call that is cancelled ends cancelled when it hears that what it has asked for is,
// whether or not it has given up before.
TEST_P(Nested, ACallThatIsCancelledEndsSo) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "relay", .payload = R"(["sleep",[60000]])"});
  const Asked nested = asked(*peer);
  peer->cancel(call);
  tell(*peer, call, nested.nested.request, false, R"({"outcome":"cancelled","effect":"maybe"})");
  auto frame = peer->next();
  if (frame && frame->type() == wire::Type::kNestedCancel) frame = peer->next();
  ASSERT_TRUE(frame);
  ASSERT_EQ(frame->type(), wire::Type::kError);
  EXPECT_EQ(frame->header.call, call);
  EXPECT_EQ(wire::decode_error({frame->header, frame->body}).value().kind, ErrorKind::kCancelled);
  expect_result(peer->call("echo", {1}), 1);
}

// Goal: a call that is interrupted while it waits says that it waits no more; an outcome that comes
// late disturbs nobody.
TEST_P(Nested, ACallThatIsInterruptedGivesUpWhatItWaitsFor) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "relay", .payload = R"(["sleep",[60000]])"});
  const Asked nested = asked(*peer);
  ASSERT_TRUE(peer->until(
      [&] {
        peer->interrupt(call);
        return peer->waiting() > 0;
      },
      "it gives up"));
  const auto given_up = peer->next();
  ASSERT_TRUE(given_up);
  ASSERT_EQ(given_up->type(), wire::Type::kNestedCancel);
  EXPECT_EQ(wire::decode_nested_cancel({given_up->header, given_up->body}), nested.nested.request);
  EXPECT_EQ(given_up->header.call, call);
  const Reply reply = peer->reply();
  EXPECT_EQ(reply.call, call);
  EXPECT_EQ(reply.kind, ErrorKind::kCancelled);
  EXPECT_TRUE(reply.interrupted);
  tell(*peer, call, nested.nested.request, false, R"({"outcome":"cancelled","effect":"maybe"})");
  expect_result(peer->call("echo", {1}), 1);

  const auto next = peer->send_call({.function = "relay", .payload = R"(["echo",[2]])"});
  const Asked another = asked(*peer);
  tell(*peer, call, nested.nested.request, true, R"("late")");
  tell(*peer, next, another.nested.request, true, "2");
  expect_result(peer->reply(), 2);
}

TEST_P(Nested, LargeFramesGoBothWays) {
  auto peer = ready();
  const std::string large(1 << 20, 'x');
  const auto call =
      peer->send_call({.function = "relay", .payload = R"(["echo",[")" + large + "\"]]"});
  const Asked nested = asked(*peer);
  EXPECT_EQ(nested.nested.payload, "[\"" + large + "\"]");
  tell(*peer, call, nested.nested.request, true, "\"" + large + "\"");
  expect_result(peer->reply(), large);
}

// Goal: calls beside each other ask in any order, and each gets what it has asked for.
TEST_P(Nested, SharedCallsAskBesideEachOther) {
  auto peer = ready();
  std::map<std::uint64_t, std::uint64_t> requests;  // by call
  std::vector<std::uint64_t> calls;
  for (std::uint16_t row = 1; row <= 8; ++row) {
    calls.push_back(peer->send_call(
        {.function = "relay_together", .payload = R"(["together",[1]])", .row = row}));
  }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Asked nested = asked(*peer);
    requests[nested.nested.parent] = nested.nested.request;
  }
  ASSERT_EQ(requests.size(), calls.size());
  for (auto call = calls.rbegin(); call != calls.rend(); ++call) {
    tell(*peer, *call, requests[*call], true, std::to_string(*call));
    expect_result(peer->reply_of(*call), *call);
  }
  // One of them is told to stop.
  const auto call = peer->send_call(
      {.function = "relay_together", .payload = R"(["together",[60000]])", .row = 1});
  const Asked nested = asked(*peer);
  peer->cancel(call, 1);
  const auto given_up = peer->next();
  ASSERT_TRUE(given_up);
  EXPECT_EQ(given_up->type(), wire::Type::kNestedCancel);
  EXPECT_EQ(peer->reply().kind, ErrorKind::kCancelled);
}

std::vector<Program> that_call_out() {
  std::vector<Program> programs{Program::kFake};
  if (std::filesystem::exists(KEELBACK_SOURCE_DIR "/python/keelback/nested.py")) {
    programs.push_back(Program::kPython);
    programs.push_back(Program::kZygote);
  }
  return programs;
}
INSTANTIATE_TEST_SUITE_P(Programs, Nested, ::testing::ValuesIn(that_call_out()),
                         [](const auto& chosen) { return name_of(chosen.param); });

}  // namespace
}  // namespace keelback::conformance
