// Attachments on every driver: both ways, bounded, exact; and what becomes of the shared memory.
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

constexpr std::size_t kMiB = 1 << 20;

std::string pattern(std::size_t bytes, unsigned seed = 1) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) {
    seed = seed * 1664525u + 1013904223u;
    text[i] = static_cast<char>(seed >> 24);
  }
  return text;
}
Call carrying(std::string function, Attachments attachments, std::string payload = "[]") {
  Call call = ask(std::move(function), std::move(payload));
  call.attachments = std::move(attachments);
  return call;
}
Attachment plain(std::string name, std::string bytes) {
  return {std::move(name), Buffer(std::move(bytes)), "", {}};
}
std::uint64_t slab_bytes(World& world) {
  return world.driver().info().stats.attachments.slab_bytes;
}
// This process maps no slab and has no descriptor of one.
bool no_slab_is_held() {
  constexpr std::string_view kName = "memfd:keelback-slab";
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(kName) != line.npos) return false;
  }
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code closed_meanwhile;
    const std::string target = std::filesystem::read_symlink(entry, closed_meanwhile).string();
    if (target.find(kName) != target.npos) return false;
  }
  return true;
}

// Goal: a worker that cannot take the slab it is handed (it has no descriptor left) costs its own
// life before the call has begun, and the caller nothing: the call runs on its successor.
TEST_P(DriverTest, AWorkerThatCannotTakeASlabCostsNoCall) {
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "its workers are no processes";
  Settings one = settings();
  one.pool.workers = 1;
  World world(GetParam(), one);
  world.warm();
  const std::string victim = world.call("pid").payload;
  rlimit limit{};
  const auto pid = static_cast<pid_t>(std::stoi(victim));
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), 0);
  limit.rlim_cur = 3;  // fewer than it has
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), 0);
  const Outcome outcome = world.call(carrying("attach_sum", {plain("", std::string(kMiB, '\1'))}));
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.payload, "[[1048576,1048576]]");
  EXPECT_EQ(outcome.attempts, 2u);
  EXPECT_NE(world.call("pid").payload, victim);
  EXPECT_EQ(world.stats().restarts, 1u);
}

// Goal: what goes out comes back, bit for bit, with name, type and shape, whatever the size and the
// way it travels; again and again, so that reused memory shows nothing of the last call.
TEST_P(DriverTest, AttachmentsComeBackAsTheyWent) {
  World world(GetParam());
  for (unsigned round = 0; round < 3; ++round) {
    Attachments sent;
    for (const std::size_t bytes : {0ul, 1ul, 65'535ul, 65'536ul, 65'537ul, 3 * kMiB}) {
      sent.push_back(plain("", pattern(bytes, round * 10 + static_cast<unsigned>(bytes))));
    }
    sent.push_back({"array", Buffer(pattern(kMiB, round)), "float32", {512, 512}});
    sent.back().filename = "na\xc3\xafve.npy";
    sent.back().content_type = "application/x-npy; v=1";
    const Outcome outcome = world.call(carrying("attach_echo", sent));
    EXPECT_OUTCOME(outcome, kOk, kDone);
    ASSERT_EQ(outcome.attachments.size(), sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i) {
      EXPECT_EQ(outcome.attachments[i].data.size(), sent[i].data.size());
      EXPECT_TRUE(outcome.attachments[i].data.view() == sent[i].data.view()) << i;
    }
    EXPECT_EQ(outcome.attachments.back().name, "array");
    EXPECT_EQ(outcome.attachments.back().dtype, "float32");
    EXPECT_EQ(outcome.attachments.back().shape, (std::vector<std::uint64_t>{512, 512}));
    EXPECT_EQ(outcome.attachments.back().filename, sent.back().filename);
    EXPECT_EQ(outcome.attachments.back().content_type, sent.back().content_type);
    EXPECT_EQ(outcome.attachments.front().filename + outcome.attachments.front().content_type, "");
    EXPECT_NE(outcome.payload.find(R"({"$attachment":"array"})"), std::string::npos);
  }
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  EXPECT_TRUE(world.adds_up());
}

// Goal: every dtype of NumPy's that has a fixed size comes back with its shape, also that of
// nothing and that of a single element.
TEST_P(DriverTest, ArraysOfEveryDtypeComeBackAsTheyWent) {
  World world(GetParam());
  Attachments sent;
  const auto add = [&](std::string dtype, std::vector<std::uint64_t> shape, std::size_t bytes) {
    std::string name = std::to_string(sent.size());
    sent.push_back({std::move(name), Buffer(pattern(bytes)), std::move(dtype), std::move(shape)});
  };
  for (const auto& [dtype, size] : {std::pair{"bool", 1},
                                    {"int8", 1},
                                    {"uint16", 2},
                                    {"int32", 4},
                                    {"uint64", 8},
                                    {"float16", 2},
                                    {"float64", 8},
                                    {"float128", 16},
                                    {"complex64", 8},
                                    {"complex128", 16},
                                    {">f4", 4},
                                    {">i8", 8},
                                    {"<M8[ns]", 8},
                                    {">m8[25s]", 8},
                                    {"|S5", 5},
                                    {"<U3", 12},
                                    {">U1", 4}}) {
    add(dtype, {2, 3}, static_cast<std::size_t>(size) * 6);
  }
  add("float32", {0, 3}, 0);
  add("float32", {3, 0}, 0);
  add("<M8[D]", {}, 8);
  const Outcome outcome = world.call(carrying("attach_echo", sent));
  EXPECT_OUTCOME(outcome, kOk, kDone);
  ASSERT_EQ(outcome.attachments.size(), sent.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(outcome.attachments[i].dtype, sent[i].dtype);
    EXPECT_EQ(outcome.attachments[i].shape, sent[i].shape) << sent[i].dtype;
    EXPECT_TRUE(outcome.attachments[i].data.view() == sent[i].data.view()) << sent[i].dtype;
  }
}

// Goal: what is no array is refused with the same words by every driver, and nothing runs.
TEST_P(DriverTest, WhatIsNoArrayIsRefused) {
  World world(GetParam());
  const auto refusal = [&](std::string dtype, std::vector<std::uint64_t> shape) {
    const Outcome outcome = world.call(
        carrying("attach_echo", {{"x", Buffer("12345678"), std::move(dtype), std::move(shape)}}));
    EXPECT_OUTCOME(outcome, kBadRequest, kNone);
    return outcome.message;
  };
  EXPECT_EQ(refusal("float99", {1}),
            R"(attachment "x" has the dtype "float99", which attachments do not carry)");
  EXPECT_EQ(refusal("object", {1}),
            R"(attachment "x" has the dtype "object", which attachments do not carry)");
  EXPECT_EQ(refusal("float32", {3}),
            R"(attachment "x" of 8 bytes is no float32 array of shape [3])");
  EXPECT_EQ(refusal("float32", {}), R"(attachment "x" of 8 bytes is no float32 array of shape [])");
  EXPECT_EQ(refusal("", {8}), R"(attachment "x" has a shape and no dtype)");
  EXPECT_TRUE(world.adds_up());
}

// Goal: several attachments of one name belong to one call; what is said of one has its limits.
TEST_P(DriverTest, AttachmentsMayShareANameAndSayWhatTheyAre) {
  World world(GetParam());
  const Outcome shared =
      world.call(carrying("echo", {plain("x", "1"), plain("x", "2")}, R"(["kept"])"));
  EXPECT_OUTCOME(shared, kOk, kDone);
  EXPECT_EQ(shared.payload, "\"kept\"");
  Attachment wrong = plain("x", "1");
  wrong.content_type = "a/b\r\nX: y";
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {wrong})), kBadRequest, kNone);
  wrong.content_type = "";
  wrong.filename = std::string(1025, 'f');
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {wrong})), kBadRequest, kNone);
}

TEST_P(DriverTest, AttachmentsOfSubmittedCallsAndOfManyAtOnce) {
  World world(GetParam());
  std::vector<Pending> calls;
  for (unsigned i = 0; i < 12; ++i) {
    calls.push_back(world.submit(carrying("attach_echo", {plain("x", pattern(200'000 + i, i))})));
  }
  for (unsigned i = 0; i < 12; ++i) {
    const Outcome outcome = world.wait(calls[i]);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    ASSERT_EQ(outcome.attachments.size(), 1u);
    EXPECT_TRUE(outcome.attachments[0].data.view() == pattern(200'000 + i, i)) << i;
  }
}

// Goal: every bound refuses before anything runs, and says which one it was; the last byte fits.
TEST_P(DriverTest, AttachmentsAreBounded) {
  Settings tight = settings();
  tight.attachments.max = Bytes{100'000};
  tight.attachments.budget = Bytes{150'000};
  World world(GetParam(), tight);
  world.warm();
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {plain("x", pattern(100'000))})), kOk, kDone);
  const Outcome large =
      world.call(carrying("attach_echo", {plain("x", pattern(100'000)), plain("y", "z")}));
  EXPECT_OUTCOME(large, kTooLarge, kNone);
  EXPECT_NE(large.message.find("attachments.max"), std::string::npos) << large.message;

  const Pending busy = world.submit(carrying("sleep", {plain("x", pattern(90'000))}, "[2000]"));
  ASSERT_TRUE(world.running("sleep"));
  EXPECT_EQ(world.stats().attachments.carried_bytes, 90'000u);
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {plain("x", pattern(60'000))})), kOk, kDone);
  const Outcome full = world.call(carrying("attach_echo", {plain("x", pattern(60'001))}));
  EXPECT_OUTCOME(full, kOverloaded, kNone);
  EXPECT_NE(full.message.find("attachments.budget"), std::string::npos) << full.message;
  EXPECT_TRUE(full.retry_after);
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  world.driver().cancel(busy.id());
  const Outcome ended = world.wait(busy);  // the simulator's sleeps to its end
  // Whether its worker has begun it by now, the pool does not know.
  if (GetParam() != Backend::kSim) {
    EXPECT_EQ(ended.kind, OutcomeKind::kCancelled) << told(ended);
  }
  EXPECT_EQ(world.stats().attachments.carried_bytes, 0u);
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {plain("x", pattern(60'001))})), kOk, kDone);

  world.configure([](Settings& settings) { settings.attachments.max = Bytes{1024}; });
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {plain("x", pattern(1025))})), kTooLarge,
                 kNone);
}

// Goal: the same key and the same bytes give the same answer, bytes included; one bit makes it
// another request.
TEST_P(DriverTest, AttachmentsBelongToTheRequestThatAKeyNames) {
  World world(GetParam());
  Call call = carrying("attach_echo", {plain("x", pattern(kMiB))});
  call.idempotency_key = "k";
  EXPECT_OUTCOME(world.call(call), kOk, kDone);
  const Outcome again = world.call(call);
  EXPECT_OUTCOME(again, kOk, kDone);
  ASSERT_EQ(again.attachments.size(), 1u);
  EXPECT_TRUE(again.attachments[0].data.view() == pattern(kMiB));
  std::string other = pattern(kMiB);
  other[700'001] ^= 1;
  call.attachments = {plain("x", other)};
  EXPECT_OUTCOME(world.call(call), kBadRequest, kNone);
}

// Goal: quarantine holds the request that killed, to the bit, and none that merely looks like it.
TEST_P(DriverTest, AttachmentsBelongToTheRequestThatIsQuarantined) {
  World world(GetParam());
  std::string bytes = pattern(kMiB);
  const auto crash = [&] { return world.call(carrying("crash", {plain("x", bytes)}, "[6]")); };
  EXPECT_OUTCOME(crash(), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(crash(), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(crash(), kQuarantined, kNone);
  bytes[700'001] ^= 1;
  EXPECT_OUTCOME(crash(), kWorkerDied, kMaybe);
}

TEST_P(DriverTest, AttachmentsSurviveTheDeathOfTheWorkerThatHadThem) {
  Settings retrying = settings();
  retrying.quarantine.deaths = 0;
  World world(GetParam(), retrying);
  Call call = carrying("crash", {plain("x", pattern(kMiB))}, "[6]");
  call.idempotent = true;
  const Outcome died = world.call(call);
  EXPECT_OUTCOME(died, kWorkerDied, kMaybe);
  EXPECT_EQ(died.attempts, 2u) << "sent again, attachments and all";
  const Outcome outcome = world.call(carrying("attach_echo", {plain("x", pattern(kMiB))}));
  EXPECT_OUTCOME(outcome, kOk, kDone);
  ASSERT_EQ(outcome.attachments.size(), 1u);
  EXPECT_TRUE(outcome.attachments[0].data.view() == pattern(kMiB));
}

// Goal: a stream's call may bring attachments; credit that is granted at once finds its way behind
// them.
TEST_P(DriverTest, AStreamsCallMayBringAttachments) {
  World world(GetParam());
  world.warm();
  const Pending stream = world.stream(carrying("items", {plain("", pattern(3 * kMiB))}, "[40]"));
  world.driver().grant(stream.id(), 100);
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kOk, kDone);
  EXPECT_EQ(stream.items().size(), 40u);
  EXPECT_TRUE(end.attachments.empty());
  EXPECT_EQ(world.stats().attachments.carried_bytes, 0u);
}

// Goal: a session's snapshot is its state and nothing else. Attachments pass by what is saved and
// restored: the first call on the next worker brings its own, through memory that this worker has
// never seen.
TEST_P(DriverTest, AttachmentsPassBySessionsThatAreSavedAndRestored) {
  Settings saving = settings();
  saving.pool.workers = 1;
  saving.sessions.snapshot = SnapshotMode::kEachCall;
  saving.quarantine.deaths = 1000;
  saving.breaker.failures = 0;
  World world(GetParam(), saving);
  const Attachments sent = {plain("large", pattern(kMiB)), plain("small", pattern(1000, 2))};
  const auto echo = [&] {
    Call call = carrying("attach_echo", sent);
    call.session = "ann";
    const Outcome outcome = world.call(call);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    EXPECT_EQ(outcome.attachments.size(), 2u);
    for (std::size_t i = 0; i < outcome.attachments.size(); ++i) {
      EXPECT_TRUE(outcome.attachments[i].data.view() == sent[i].data.view()) << i;
    }
    return outcome;
  };
  for (std::uint32_t epoch = 1; epoch <= 3; ++epoch) {
    EXPECT_EQ(echo().epoch, epoch) << "restored before it ran";
    EXPECT_EQ(world.call("counter", "[]", "ann").payload, std::to_string(epoch));
    EXPECT_EQ(echo().epoch, epoch);
    EXPECT_OUTCOME(world.call(carrying("crash", sent, "[11]")), kWorkerDied, kMaybe);
  }
  EXPECT_EQ(world.stats().sessions.lost, 0u);
  EXPECT_EQ(world.stats().snapshots.failed, 0u);
  EXPECT_EQ(world.stats().attachments.carried_bytes, 0u);
  EXPECT_TRUE(world.adds_up());
}

// ---- shared memory: real workers only

// Goal: slabs are warm from call to call, go when nobody uses them, and go with their worker.
TEST_P(DriverTest, SlabsAreReusedAndGivenBack) {
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "it has no memory to share";
  Settings one = settings();
  one.pool.workers = 1;
  one.attachments.keep = 1h;
  World world(GetParam(), one);
  const Call call = carrying("attach_sum", {plain("x", pattern(kMiB))});
  EXPECT_OUTCOME(world.call(call), kOk, kDone);
  const std::uint64_t after_one = slab_bytes(world);
  EXPECT_EQ(after_one, kMiB);
  for (int i = 0; i < 20; ++i) EXPECT_OUTCOME(world.call(call), kOk, kDone);
  EXPECT_EQ(slab_bytes(world), after_one);
  EXPECT_OUTCOME(world.call("attach_make", "[3,1000000]"), kOk, kDone);
  EXPECT_EQ(slab_bytes(world), 3 * kMiB) << "two more for the result, the warm one for the third";

  world.configure([](Settings& settings) { settings.attachments.keep = 0s; });
  EXPECT_TRUE(world.until([&] { return slab_bytes(world) == 0; })) << "shrinks after the burst";
  EXPECT_TRUE(world.until(no_slab_is_held)) << "gone just behind the count";
  EXPECT_OUTCOME(world.call(call), kOk, kDone);
}

// Goal: a worker that dies with attachments on it leaves nothing: no mapping, no descriptor, no
// byte of the budget.
TEST_P(DriverTest, ADeathAmidAttachmentsLeavesNoMemory) {
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "it has no memory to share";
  Settings keeping = settings();
  keeping.pool.workers = 1;
  keeping.attachments.keep = 1h;
  keeping.quarantine.deaths = 0;
  keeping.breaker.failures = 0;
  World world(GetParam(), keeping);
  for (int i = 0; i < 3; ++i) {
    EXPECT_OUTCOME(world.call(carrying("crash", {plain("x", pattern(3 * kMiB))}, "[9]")),
                   kWorkerDied, kMaybe);
    EXPECT_TRUE(world.until([&] { return slab_bytes(world) == 0; }));
    EXPECT_TRUE(world.until(no_slab_is_held));
  }
  EXPECT_OUTCOME(world.call(carrying("attach_sum", {plain("x", "abc")})), kOk, kDone);
}

// Goal: without a budget for slabs nothing fails: the bytes go through the socket.
TEST_P(DriverTest, AFullBudgetOfSlabsCostsNoCall) {
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "it has no memory to share";
  Settings small = settings();
  small.pool.workers = 1;
  small.attachments.budget = Bytes{kMiB + 1000};
  World world(GetParam(), small);
  // One call's bytes fit the budget, its slab (in steps) does not.
  const Outcome outcome = world.call(carrying("attach_echo", {plain("x", pattern(kMiB + 1))}));
  EXPECT_OUTCOME(outcome, kOk, kDone);
  ASSERT_EQ(outcome.attachments.size(), 1u);
  EXPECT_TRUE(outcome.attachments[0].data.view() == pattern(kMiB + 1));
  EXPECT_EQ(slab_bytes(world), 0u);
  EXPECT_OUTCOME(world.call("attach_make", "[2,1048577]"), kOk, kDone);
}

// Goal: a view that outlives its call keeps its bytes, whatever comes after, and counts in the
// budget until it goes.
TEST_P(DriverTest, AViewThatIsKeptKeepsItsBytes) {
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "it has no memory to share";
  Settings one = settings();
  one.pool.workers = 1;
  one.attachments.keep = 0s;
  World world(GetParam(), one);
  const std::string ones(kMiB, '\1');
  EXPECT_OUTCOME(world.call(carrying("attach_keep", {plain("x", ones)})), kOk, kDone);
  for (int i = 0; i < 5; ++i) {
    EXPECT_OUTCOME(world.call(carrying("attach_echo", {plain("x", pattern(kMiB))})), kOk, kDone);
  }
  EXPECT_EQ(world.call("attach_seen").payload, std::to_string(kMiB));
  EXPECT_TRUE(world.until([&] { return slab_bytes(world) == kMiB; })) << "the kept one alone";
  EXPECT_OUTCOME(world.call("attach_drop"), kOk, kDone);
  EXPECT_OUTCOME(world.call(carrying("attach_sum", {plain("x", ones)})), kOk, kDone);
  EXPECT_TRUE(world.until([&] { return slab_bytes(world) == 0; }));
}

// Goal: the same in a session whose state goes along with the answer.
TEST_P(DriverTest, AViewIsKeptBesideASnapshot) {
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "it has no memory to share";
  Settings one = settings();
  one.pool.workers = 1;
  one.attachments.keep = 0s;
  one.sessions.snapshot = SnapshotMode::kEachCall;
  World world(GetParam(), one);
  Call keep = carrying("attach_keep", {plain("x", std::string(kMiB, '\1'))});
  keep.session = "ann";
  EXPECT_OUTCOME(world.call(keep), kOk, kDone);
  EXPECT_EQ(world.stats().snapshots.kept, 1u);
  EXPECT_OUTCOME(world.call(carrying("attach_echo", {plain("x", pattern(kMiB))})), kOk, kDone);
  EXPECT_EQ(world.call("attach_seen").payload, std::to_string(kMiB));
  EXPECT_TRUE(world.until([&] { return slab_bytes(world) == kMiB; })) << "the kept one alone";
}

}  // namespace
}  // namespace keelback::test
