// One call: forms of arguments, sizes, kinds of errors, marks, log lines, UNCLEAN.
#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;

TEST_P(Protocol, TakesArgumentsAsObjectAsArrayAndNotAtAll) {
  auto peer = ready();
  expect_result(peer->call({.function = "echo", .payload = R"({"value":"a"})"}), "a");
  expect_result(peer->call({.function = "echo", .payload = R"(["b"])"}), "b");
  expect_result(peer->call({.function = "pid", .payload = ""}), peer->pid());
  expect_result(peer->call({.function = "pid", .payload = "{}"}), peer->pid());
  expect_result(peer->call({.function = "pid", .payload = "[]"}), peer->pid());
  expect_result(peer->call({.function = "echo", .payload = " \n[ 1 ]\t "}), 1);
}

// Goal: values come back as they went, as compact UTF-8 JSON.
TEST_P(Protocol, EchoesEveryKindOfValue) {
  auto peer = ready();
  for (const char* value :
       {"null", "true", "false", "0", "-1", "9007199254740993", "18446744073709551615", "1.5",
        "1e300", R"("")", R"("é漢😀")", R"("line\nquote\"back\\slash")", "[]", "{}",
        R"([1,[2,[3]]])", R"({"b":1,"a":{"c":[]}})"}) {
    const Reply reply = peer->call({.function = "echo", .payload = std::string("[") + value + "]"});
    expect_result(reply, Json::parse(value));
    EXPECT_EQ(reply.body.find_first_of(" \n"), std::string::npos) << reply.body;
  }
  EXPECT_EQ(peer->call({.function = "echo", .payload = R"([{"b":1,"a":"é"}])"}).body,
            R"({"b":1,"a":"é"})")
      << "order kept, nothing escaped that need not be";
}

TEST_P(Protocol, TellsTheFourKindsOfErrorApart) {
  auto peer = ready();
  const Reply failed = peer->call("fail", {"it broke: é"});
  expect_error(failed, ErrorKind::kError, "ValueError", "it broke: é");
  EXPECT_THAT(failed.error["traceback"].get<std::string>(), HasSubstr("ValueError: it broke"));

  expect_error(peer->call("nobody", Json::array()), ErrorKind::kUnknownFunction, "LookupError",
               "nobody");

  const auto bad = [&](const char* function, const std::string& payload) {
    return peer->call({.function = function, .payload = payload});
  };
  expect_error(bad("echo", "[]"), ErrorKind::kBadRequest, "TypeError", "value");
  expect_error(bad("echo", R"({"value":1,"other":2})"), ErrorKind::kBadRequest, "TypeError",
               "other");
  expect_error(bad("echo", "[1,2]"), ErrorKind::kBadRequest, "TypeError", "argument");
  expect_error(bad("pid", "[1]"), ErrorKind::kBadRequest, "TypeError", "argument");
  for (const char* no_arguments : {"7", "\"text\"", "null", "true"}) {
    expect_error(bad("echo", no_arguments), ErrorKind::kBadRequest, "TypeError", "JSON object");
  }
  for (const char* no_json :
       {"[1", "{", "[1]]", "nope", "\xff\xfe", "[\"\xc3\"]", "{\"value\":}"}) {
    expect_error(bad("echo", no_json), ErrorKind::kBadRequest, "ValueError", "arguments are not");
  }
  expect_error(peer->call("sleep", {"soon"}), ErrorKind::kError, "TypeError");
  expect_result(peer->call("echo", {"still here"}), "still here");
}

// Goal: a value that does not fit its annotation is refused with its place, and nothing runs. A
// call that does not bind has no such place.
TEST_P(Protocol, SaysWhereArgumentsDoNotFit) {
  auto peer = ready();
  expect_result(peer->call("typed", {7}), 7);
  for (const char* payload : {"[\"7\"]", R"({"n": "7"})", "[7.5]", "[true]", "[null]"}) {
    SCOPED_TRACE(payload);
    const Reply reply = peer->call({.function = "typed", .payload = payload});
    expect_error(reply, ErrorKind::kBadRequest, "keelback.ValidationError",
                 "argument \"n\": Input");
    EXPECT_EQ(reply.error["errors"], Json::parse(R"([{"loc":["n"],"type":"int_type",
                                        "msg":"Input should be a valid integer"}])"));
    EXPECT_NE(peer->mark(wire::kMarkStarted), reply.call);
  }
  const Reply missing = peer->call({.function = "typed", .payload = "[]"});
  expect_error(missing, ErrorKind::kBadRequest, "TypeError", "n");
  EXPECT_FALSE(missing.error.contains("errors"));
}

// Goal: what a JSON parser would change without a word is refused, and nothing runs.
TEST_P(Protocol, RefusesArgumentsThatWouldArriveAsSomethingElse) {
  auto peer = ready();
  for (const char* payload :
       {"[NaN]", R"({"value": -Infinity})", R"([{"a":[Infinity]}])", "[1e400]",
        R"({"value":1,"value":2})", R"([{"a":{"b":1,"c":2,"b":1}}])",
        R"({"value":"a:b","val\u0075e":1})"}) {
    SCOPED_TRACE(payload);
    const Reply reply = peer->call({.function = "echo", .payload = payload});
    expect_error(reply, ErrorKind::kBadRequest, "ValueError", "arguments");
    EXPECT_NE(peer->mark(wire::kMarkStarted), reply.call);
  }
  const Reply twice = peer->call({.function = "echo", .payload = R"([{"a":1,"key":2,"key":3}])"});
  expect_error(twice, ErrorKind::kBadRequest, "ValueError", R"(the key "key" twice)");
  const Reply kept =
      peer->call({.function = "echo", .payload = R"([{"a":{"a":1},"b":[{"a":2}]}])"});
  expect_result(kept, Json::parse(R"({"a":{"a":1},"b":[{"a":2}]})"));
}

TEST_P(Protocol, SaysThatAResultCannotBeWritten) {
  auto peer = ready();
  const Reply reply = peer->call("unserialisable", Json::array());
  expect_error(reply, ErrorKind::kError, "keelback.ResultError", "JSON cannot write");
  EXPECT_EQ(peer->mark(wire::kMarkStarted), reply.call) << "the function ran";
}

// Goal: `effect: none` is true: what does not run user code does not write the started mark.
TEST_P(Protocol, WritesNoStartedMarkForACallThatRunsNothing) {
  auto peer = ready();
  const auto ran = peer->call("echo", {1}).call;
  EXPECT_EQ(peer->mark(wire::kMarkStarted), ran);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), ran);
  (void)peer->call("nobody", Json::array());
  (void)peer->call("echo", Json::array());
  (void)peer->call({.function = "echo", .payload = "{"});
  // A session that is not here, and a call whose cancel mark was first.
  (void)peer->call({.function = "counter", .session = "ann", .birth = 1, .epoch = 1});
  peer->set_mark(wire::kMarkCancel, peer->next_call());
  expect_error(peer->call("echo", {1}), ErrorKind::kCancelled, "keelback.Cancelled");
  EXPECT_EQ(peer->mark(wire::kMarkStarted), ran);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), ran);
}

TEST_P(Protocol, MarksACallAsStartedWhileItRunsAndAsEndedBeforeItAnswers) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "sleep", .payload = "[30]"});
  ASSERT_TRUE(peer->await_started(call));
  expect_result(peer->reply(), 30);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), call);
  for (int i = 0; i < 200; ++i) {
    const Reply reply = peer->call("echo", {i});
    ASSERT_EQ(peer->mark(wire::kMarkEnded), reply.call) << "at the answer, not some time later";
  }
  expect_error(peer->call("fail", {"x"}), ErrorKind::kError, "ValueError");
  EXPECT_EQ(peer->mark(wire::kMarkEnded), peer->next_call() - 1);
}

TEST_P(Protocol, LeavesTheStartedMarkStandingWhenItDiesInTheCall) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "crash", .payload = "[11]"});
  const auto status = peer->status();
  ASSERT_TRUE(status);
  EXPECT_EQ(*status & 0x7f, 11) << *status;
  EXPECT_EQ(peer->mark(wire::kMarkStarted), call);
  EXPECT_NE(peer->mark(wire::kMarkEnded), call);
  EXPECT_TRUE(peer->ended());

  auto other = ready();
  (void)other->send_call({.function = "exit", .payload = "[7]"});
  EXPECT_EQ(other->status(), 7 << 8);
}

// ---- bytes

// Goal: the edges of packets mean nothing. Arguments and results whose frames end just before, at
// and just behind a packet's end, and large ones, both ways.
TEST_P(Protocol, CarriesPayloadsOfEverySize) {
  auto peer = ready();
  constexpr std::size_t kHead = 16 + 32 + 4;  // of a CALL of echo
  for (const std::size_t size :
       {std::size_t{4}, std::size_t{5}, wire::kPacketMax - kHead - 1, wire::kPacketMax - kHead,
        wire::kPacketMax - kHead + 1, wire::kPacketMax - 1, wire::kPacketMax, wire::kPacketMax + 1,
        2 * wire::kPacketMax, std::size_t{4} << 20}) {
    const std::string text(size - 4, 'a');
    const Reply reply = peer->call({.function = "echo", .payload = "[\"" + text + "\"]"});
    ASSERT_EQ(reply.type, wire::Type::kResult) << size;
    EXPECT_EQ(reply.body, '"' + text + '"') << size;
  }
  for (const std::size_t body :
       {std::size_t{2}, wire::kPacketMax - 17, wire::kPacketMax - 16, wire::kPacketMax - 15,
        wire::kPacketMax - 1, wire::kPacketMax, wire::kPacketMax + 1, std::size_t{4} << 20}) {
    const Reply reply = peer->call("blob", {body - 2});
    ASSERT_EQ(reply.type, wire::Type::kResult) << body;
    EXPECT_EQ(reply.body, '"' + std::string(body - 2, 'x') + '"') << body;
  }
}

// Goal: a frame in pieces is the same frame, cut anywhere in its head, or into single bytes.
TEST_P(Protocol, TakesAFrameInPieces) {
  auto peer = ready();
  const Ask ask{.function = "echo", .payload = "[\"pieces\"]", .trace = "00-ab-cd-01"};
  for (const std::size_t cut : {1, 4, 15, 16, 17, 47, 48, 49, 51, 52, 60}) {
    const std::string bytes = Peer::encode(peer->skip_call(), ask);
    ASSERT_LT(cut, bytes.size());
    peer->send_packets({bytes.substr(0, cut), bytes.substr(cut)});
    expect_result(peer->reply(), "pieces");
  }
  const std::string bytes = Peer::encode(peer->skip_call(), ask);
  std::vector<std::string> single;
  for (const char byte : bytes) single.emplace_back(1, byte);
  peer->send_packets(single);
  expect_result(peer->reply(), "pieces");
}

TEST_P(Protocol, TakesSeveralFramesFromOnePacket) {
  auto peer = ready();
  std::string end;
  ASSERT_TRUE(wire::append_session_end(end, {.birth = 1, .session = "nobody"}));
  std::string credit;
  wire::append_credit(credit, 999, 4);  // of a stream that is over
  const std::string call = Peer::encode(peer->skip_call(), {.function = "echo", .payload = "[1]"});
  peer->send_packets({end + credit + call});
  expect_result(peer->reply(), 1);
  // One frame and a half, then the other half and one more.
  const std::string second =
      Peer::encode(peer->skip_call(), {.function = "echo", .payload = "[2]"});
  peer->send_packets({end + second.substr(0, 20), second.substr(20) + credit});
  expect_result(peer->reply(), 2);
}

// Goal: a result over the limit is the call's error, and the limit is live.
TEST_P(Protocol, RefusesAResultOverTheLimitOfTheMark) {
  auto peer = ready();
  peer->set_mark(wire::kMarkResultMax, 1000);
  EXPECT_EQ(peer->call("blob", {998}).type, wire::Type::kResult);
  expect_error(peer->call("blob", {999}), ErrorKind::kError, "keelback.ResultError",
               "the result is too large: 1001 bytes; calls.payload_max is 1000");
  expect_error(peer->call("items", {1000}), ErrorKind::kError, "keelback.ResultError", "too large");
  peer->set_mark(wire::kMarkResultMax, 1001);
  EXPECT_EQ(peer->call("blob", {999}).type, wire::Type::kResult);
  peer->set_mark(wire::kMarkResultMax, 0);
  expect_error(peer->call("blob", {16 << 20}), ErrorKind::kError, "keelback.ResultError",
               "calls.payload_max is 16777216");
}

// ---- what is beside the answer

TEST_P(Protocol, WritesWhatIsPrintedToItsLog) {
  auto peer = ready();
  expect_result(peer->call("log", {"a line of its own", 3}), 3);
  EXPECT_THAT(peer->read_log_until("a line of its own\na line of its own\na line of its own\n"),
              HasSubstr("a line of its own\n"));
  // Far more than a pipe holds: it waits for the reader and loses nothing.
  const std::string line(1000, 'y');
  expect_result(peer->call("log", {line, 200}), 200);
  expect_result(peer->call("log", {"the end of it"}), 1);
  const std::string all = peer->read_log_until("the end of it\n");
  EXPECT_EQ(std::ranges::count(all, 'y'), 200'000);
}

TEST_P(Protocol, SaysThatACallLeftSomethingBehind) {
  auto peer = ready();
  EXPECT_FALSE(peer->call("echo", {1}).unclean);
  const Reply reply = peer->call("litter", Json::array());
  expect_result(reply, nullptr);
  EXPECT_TRUE(reply.unclean);
}

}  // namespace
}  // namespace keelback::conformance
