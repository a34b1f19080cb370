// The pure pieces of the host.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>

#include "host/environment.h"
#include "host/event_loop.h"
#include "host/fingerprint.h"
#include "host/hello.h"
#include "host/log_lines.h"
#include "host/loop_io.h"
#include "host/oom_witness.h"
#include "host/outcome_json.h"
#include "host/restart_pace.h"
#include "host/started_mark.h"

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

// Goal: marks that a worker may truthfully leave are believed; any other ones mean that the call
// may have run, so that damaged marks never make a call run twice.
TEST(StartedMark, WhatCannotBeTrueMeansMaybe) {
  constexpr CallId kCall{70};
  EXPECT_FALSE(may_have_started(kCall, 0, {0, 0})) << "its first call, not begun";
  EXPECT_FALSE(may_have_started(kCall, 60, {60, 60})) << "not begun since the one before";
  EXPECT_FALSE(may_have_started(kCall, 60, {65, 65})) << "the one before failed";
  EXPECT_TRUE(may_have_started(kCall, 60, {70, 60}));
  EXPECT_TRUE(may_have_started(kCall, 60, {70, 70}));
  EXPECT_TRUE(may_have_started(kCall, 60, {0, 0})) << "wiped: call 60 had run";
  EXPECT_TRUE(may_have_started(kCall, 60, {59, 59})) << "older than what had run";
  EXPECT_TRUE(may_have_started(kCall, 60, {65, 60})) << "an earlier call that never ended";
  EXPECT_TRUE(may_have_started(kCall, 60, {71, 71})) << "a call that it never had";
  EXPECT_TRUE(may_have_started(kCall, 60, {~0ULL, ~0ULL}));
  EXPECT_FALSE(may_have_started(CallId{}, 60, {~0ULL, 3})) << "it had no call";
}

// Goal: Python code hears all that a caller of the pool would, in the words of docs/protocol.md,
// and no text of others spoils the JSON.
TEST(OutcomeJson, SaysWhatIsKnownAndNothingElse) {
  Outcome outcome;
  outcome.call = 17;
  outcome.kind = OutcomeKind::kOverloaded;
  outcome.reason = "would_deadlock";
  outcome.message = "It would.";
  EXPECT_EQ(outcome_json(outcome),
            R"({"call":17,"effect":"none","message":"It would.","outcome":"overloaded",)"
            R"("reason":"would_deadlock"})");
  outcome.kind = OutcomeKind::kError;
  outcome.effect = Effect::kDone;
  outcome.reason.clear();
  outcome.message = "\xff";
  outcome.python = PythonError{.type = "ValueError", .message = "so", .traceback = "at"};
  outcome.death = Death{.cause = "oom", .detail = "big"};
  outcome.retry_after = 1500ms;
  EXPECT_EQ(outcome_json(outcome),
            R"({"call":17,"death":{"cause":"oom","detail":"big"},"effect":"done","error":)"
            R"({"message":"so","traceback":"at","type":"ValueError"},"message":")"
            "\xef\xbf\xbd"
            R"(","outcome":)"
            R"("error","reason":"","retry_after_s":1.5})");
  EXPECT_EQ(outcome_json("host_gone", Effect::kNone, "Nobody."),
            R"({"effect":"none","message":"Nobody.","outcome":"host_gone","reason":""})");
  EXPECT_EQ(outcome_json(HostReply{.ok = false, .error_type = "KeyError", .error_message = "a"}),
            R"({"effect":"done","error":{"message":"a","traceback":"","type":"KeyError"},)"
            R"("message":"KeyError: a","outcome":"error","reason":""})");
  EXPECT_EQ(outcome_json(HostReply{.ok = false, .dropped = true}),
            R"({"effect":"maybe","message":"Its provider dropped the request.",)"
            R"("outcome":"host_gone","reason":""})");
}

// Goal: deaths that have nothing to do with each other never add up to a pause, and the time that
// was spent waiting and importing does not count against the zygote.
TEST(RestartPace, DeathsNowAndThenCostNoPause) {
  RestartPace pace;
  Time now = at(0s);
  Duration waited{0};
  for (int death = 0; death < 100; ++death) {
    const Duration pause = pace.after_death(now);
    waited += pause;
    // In turn two soon after one another, and one after a while: every 6 s on average.
    now += std::max(pause, std::array<Duration, 3>{1s, 5s, 12s}[death % 3]);
  }
  EXPECT_EQ(waited, 0s);
}

TEST(RestartPace, OneThatDiesAtEachStartIsPacedAndForgivenAfterACalmTime) {
  RestartPace pace;
  Time now = at(0s);
  int starts = 0;
  Duration longest{0};
  while (now < at(300s)) {
    const Duration pause = pace.after_death(now);
    longest = std::max(longest, pause);
    now += pause + 1ms;
    ++starts;
  }
  const int free = 300 / 5 + 5, paced = 300 / 10 + 8;
  EXPECT_LE(starts, free + paced);
  EXPECT_EQ(longest, RestartPace::kPauseMax);
  now += 60s;
  for (int death = 0; death < 5; ++death) EXPECT_EQ(pace.after_death(now), 0s) << death;
  EXPECT_EQ(pace.after_death(now), RestartPace::kPauseMin);
  EXPECT_EQ(pace.after_failure(now), 2 * RestartPace::kPauseMin) << "no start, nothing is free";
}

// Goal: the thread of the last fatal error is read from faulthandler's report, and from nothing
// else.
TEST(LogLines, KnowTheThreadOfAFatalError) {
  LogLines lines;
  std::vector<std::string> out;
  lines.feed(at(0s), "Current thread 0x00000000deadbeef (most recent call first):\n", out);
  EXPECT_EQ(lines.fatal_thread(), 0U) << "a dump that the application wanted";
  lines.feed(at(0s),
             "halfFatal Python error: Segmentation fault\n\nThread 0x0000000000000001 (most "
             "recent call first):\n  File \"a.py\", line 1 in f\n\n",
             out);
  EXPECT_EQ(lines.fatal_thread(), 0U);
  for (int i = 0; i < 500; ++i) lines.feed(at(0s), "  File \"a.py\", line 1 in f\n", out);
  lines.feed(at(0s), "Current thread 0x00007f1c9a7fe6c0 (most recent call first):\n", out);
  EXPECT_EQ(lines.fatal_thread(), 0x7f1c9a7fe6c0U) << "though the log has dropped lines";
  lines.feed(at(0s), "Current thread 0x0000000000000002 (most recent call first):\n", out);
  EXPECT_EQ(lines.fatal_thread(), 0x7f1c9a7fe6c0U);
  lines.feed(at(0s), "Fatal Python error: Aborted\n", out);
  EXPECT_EQ(lines.fatal_thread(), 0U) << "it is not said of this one";
  lines.feed(at(0s), "Current thread 0x0000000000000003 [a name] (most recent call first):\n", out);
  EXPECT_EQ(lines.fatal_thread(), 3U);
  lines.feed(at(0s), "Fatal Python error: Aborted\nCurrent thread 0xnonsense\n", out);
  EXPECT_EQ(lines.fatal_thread(), 0U);
}

TEST(LogLines, JoinsPiecesAndCutsWhatIsTooLong) {
  LogLines lines;
  std::vector<std::string> out;
  lines.feed(at(0s), "one\ntw", out);
  lines.feed(at(0s), "o\n\nlast", out);
  EXPECT_EQ(out, (std::vector<std::string>{"one", "two", ""}));
  lines.finish(at(0s), out);
  EXPECT_EQ(out.back(), "last");
  EXPECT_EQ(lines.tail(), "one\ntwo\n\nlast\n");
  out.clear();
  lines.feed(at(1s), std::string(LogLines::kLineBytes + 1, 'x') + "\n", out);
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].size(), LogLines::kLineBytes + LogLines::kGoesOn.size());
  EXPECT_EQ(out[1], "x");
}

// Goal: a long line comes in marked pieces that end between characters, and one that just fits is
// one line, in whatever portions it is read.
TEST(LogLines, PiecesOfALongLineAreMarkedAndWhole) {
  LogLines lines;
  std::vector<std::string> out;
  const std::string fits(LogLines::kLineBytes, 'x');
  lines.feed(at(0s), fits, out);
  lines.feed(at(0s), "\nnext\n", out);
  EXPECT_EQ(out, (std::vector<std::string>{fits, "next"}));
  out.clear();
  std::string umlauts = "x";  // so that a character lies across the end of a piece
  while (umlauts.size() < 2 * LogLines::kLineBytes) umlauts += "\xc3\xa4";
  for (const char byte : umlauts + "\n") lines.feed(at(0s), std::string_view(&byte, 1), out);
  ASSERT_EQ(out.size(), 3U);
  std::string whole;
  for (const std::string& piece : out) {
    const bool last = &piece == &out.back();
    EXPECT_EQ(piece.ends_with(LogLines::kGoesOn), !last);
    whole += last ? piece : piece.substr(0, piece.size() - LogLines::kGoesOn.size());
    const auto first = static_cast<unsigned char>(piece[0]);
    EXPECT_TRUE(first == 'x' || first == 0xC3) << "it begins with a whole character";
  }
  EXPECT_EQ(whole, umlauts);
}

// Goal: bytes that are no UTF-8 are cut somewhere, and nothing is lost or waited for.
TEST(LogLines, WhatIsNoTextIsCutToo) {
  LogLines lines;
  std::vector<std::string> out;
  lines.feed(at(0s), std::string(3 * LogLines::kLineBytes, '\x80'), out);
  lines.finish(at(0s), out);
  std::size_t bytes = 0;
  for (const std::string& piece : out) bytes += piece.size();
  EXPECT_EQ(bytes, 3 * LogLines::kLineBytes + (out.size() - 1) * LogLines::kGoesOn.size());
}

// Goal: what was dropped is told once, and the log has the last lines of a flood, in order.
TEST(LogLines, TellsOfDroppedLinesOnceAndKeepsTheLast) {
  LogLines lines;
  std::vector<std::string> out;
  EXPECT_EQ(lines.take_flood().dropped, 0U);
  for (int i = 0; i < 1000; ++i) lines.feed(at(0s), "line " + std::to_string(i) + "\n", out);
  lines.feed(at(1s), "after the flood\n", out);
  EXPECT_EQ(out.size(), LogLines::kBurst) << "it does not overtake what is held";
  const LogLines::Flood flood = lines.take_flood();
  EXPECT_EQ(flood.dropped, 1001 - LogLines::kBurst - LogLines::kHeld);
  ASSERT_EQ(flood.held.size(), LogLines::kHeld);
  EXPECT_EQ(flood.held.front(), "line 991");
  EXPECT_EQ(flood.held.back(), "after the flood");
  EXPECT_EQ(lines.take_flood().dropped, 0U);
  EXPECT_TRUE(lines.take_flood().held.empty());
  lines.feed(at(1s), "as usual\n", out);
  EXPECT_EQ(out.back(), "as usual");
}

TEST(LogLines, AFloodIsBoundedCountedAndItsEndKept) {
  LogLines lines;
  std::vector<std::string> out;
  for (int i = 0; i < 10'000; ++i) lines.feed(at(0s), "line " + std::to_string(i) + "\n", out);
  EXPECT_EQ(out.size(), LogLines::kBurst);
  EXPECT_EQ(lines.dropped(), 10'000 - LogLines::kBurst - LogLines::kHeld);
  EXPECT_LE(lines.tail().size(), LogLines::kTailBytes);
  EXPECT_TRUE(lines.tail().ends_with("line 9999\n"));
  EXPECT_EQ(std::ranges::count(lines.tail(), '\n'), LogLines::kTailLines);
  static_cast<void>(lines.take_flood());
  out.clear();
  for (int i = 0; i < 1000; ++i) lines.feed(at(1s), "later\n", out);
  EXPECT_EQ(out.size(), LogLines::kLinesPerSecond);
}

// Goal: the core hears of a function whatever it decides by.
TEST(Hello, TellsTheCoreWhatItDecidesBy) {
  Application application{.name = "a", .runtime = "r", .health = true, .functions = {}};
  application.functions.push_back({.name = "f",
                                   .idempotent = true,
                                   .stream = true,
                                   .timeout = 1500ms,
                                   .max_workers = 2,
                                   .interruptible = true});
  application.functions.push_back({.name = "g"});
  const core::FunctionsAnnounced announced = functions_of(application);
  EXPECT_TRUE(announced.health);
  ASSERT_EQ(announced.functions.size(), 2U);
  const core::FunctionSpec& f = announced.functions[0];
  EXPECT_EQ(f.name, "f");
  EXPECT_TRUE(f.idempotent && f.stream && f.interruptible);
  EXPECT_EQ(f.timeout, 1500ms);
  EXPECT_EQ(f.max_workers, 2U);
  const core::FunctionSpec& g = announced.functions[1];
  EXPECT_FALSE(g.idempotent || g.stream || g.interruptible || g.timeout);
}

TEST(Hello, AnErrorThatIsNoJsonIsShownAsItIs) {
  const PythonError error = python_error_of(R"({"type":"E","message":"m","traceback":"t"})");
  EXPECT_EQ(error.type, "E");
  EXPECT_EQ(error.message, "m");
  EXPECT_EQ(error.traceback, "t");
  EXPECT_EQ(python_error_of("not json").message, "not json");
}

TEST(Environment, PutsOursOverTheProgramsAndKeepsItsPythonPath) {
  const auto entries = worker_environment({"A=1", "PYTHONPATH=/theirs", "KEELBACK_OWNER=old"},
                                          {"A=2", "B=3"}, "/ours", "1.2.3");
  const auto has = [&](std::string_view entry) { return std::ranges::count(entries, entry) == 1; };
  EXPECT_TRUE(has("A=2"));
  EXPECT_TRUE(has("B=3"));
  EXPECT_TRUE(has("PYTHONPATH=/ours:/theirs"));
  EXPECT_TRUE(has("KEELBACK_OWNER=1.2.3"));
  EXPECT_EQ(entries.size(), 4U);
}

TEST(Environment, AddsWhatPythonNeedsUnlessTheUserHasSaidSo) {
  std::vector<std::string> entries = {"OMP_NUM_THREADS=4", "PYTHONHASHSEED=9", "A=1"};
  add_python_defaults(entries, 2, 77);
  EXPECT_EQ(entries, (std::vector<std::string>{"OMP_NUM_THREADS=4", "PYTHONHASHSEED=9", "A=1",
                                               "OPENBLAS_NUM_THREADS=2", "MKL_NUM_THREADS=2",
                                               "NUMEXPR_NUM_THREADS=2"}));
  std::vector<std::string> empty;
  add_python_defaults(empty, 0, 77);
  EXPECT_EQ(empty, std::vector<std::string>{"PYTHONHASHSEED=77"});
}

// Goal: of workers.env the import sees what is the same for all; each worker sees all of it, its
// slot's values, and its device; the embedding program's own words win.
TEST(Environment, EachWorkerHasTheValuesAndTheDeviceOfItsSlot) {
  Settings settings;
  settings.workers.env = {
      {"SAME", "1"}, {"OWN", "91{slot}-{slot}"}, {"GIVEN", "no"}, {"PYTHONPATH", "/apps"}};
  settings.workers.devices = {"0", "GPU-7"};
  const WorkerEnvironment environment(
      {.inherited = {"SAME=0", "OWN=old", "A=1", "KEELBACK_DEVICE=of another pool"},
       .given = {"GIVEN=yes"},
       .python_directory = "/ours",
       .owner = "1.2.3",
       .hash_seed = 7,
       .user = {}});
  using Entries = std::set<std::string>;
  const auto set_of = [](const std::vector<std::string>& entries) {
    return Entries(entries.begin(), entries.end());
  };
  const Entries zygote = {"SAME=1",
                          "OWN=old",
                          "A=1",
                          "GIVEN=yes",
                          "PYTHONPATH=/ours:/apps",
                          "KEELBACK_OWNER=1.2.3",
                          "PYTHONHASHSEED=7",
                          "OMP_NUM_THREADS=1",
                          "OPENBLAS_NUM_THREADS=1",
                          "MKL_NUM_THREADS=1",
                          "NUMEXPR_NUM_THREADS=1"};
  EXPECT_EQ(set_of(environment.of_zygote(settings)), zygote);
  const auto changes = [&](std::uint32_t slot) {
    return changes_between(environment.of_zygote(settings),
                           environment.of_worker(settings, WorkerId{slot, 9}));
  };
  using Changes = EnvironmentChanges;
  EXPECT_EQ(changes(3), (Changes{{"OWN", "913-3"},
                                 {"CUDA_VISIBLE_DEVICES", "0"},
                                 {"ROCR_VISIBLE_DEVICES", "0"},
                                 {"KEELBACK_DEVICE", "0"}}));
  EXPECT_EQ(changes(2).at("KEELBACK_DEVICE"), "GPU-7");
  EXPECT_EQ(changes(kProbeSlot).at("OWN"), "910-0");
  EXPECT_EQ(changes(kProbeSlot).at("KEELBACK_DEVICE"), "0");

  EXPECT_EQ(environment.taken_device_variable(), "");
  const WorkerEnvironment taken({.given = {"A=1", "CUDA_VISIBLE_DEVICES=3"}});
  EXPECT_EQ(taken.taken_device_variable(), "CUDA_VISIBLE_DEVICES");
}

// Goal: after a change of the settings a forked worker has what an executed one has.
TEST(Environment, AForkedWorkerHasWhatHasChangedSinceItsZygoteStarted) {
  EXPECT_EQ(changes_between({"A=1", "B=2", "C=3"}, {"A=1", "B=", "D=4=5"}),
            (EnvironmentChanges{{"B", ""}, {"C", std::nullopt}, {"D", "4=5"}}));
  EXPECT_TRUE(changes_between({"A=1", "B=2"}, {"B=2", "A=1"}).empty());
}

TEST(Environment, LargerResultsThanAllowedAreStillReceivedUpToALimit) {
  EXPECT_GT(frame_bytes_for(0), 1U << 20);
  EXPECT_GE(frame_bytes_for(16 << 20), 32U << 20);
  EXPECT_EQ(frame_bytes_for(UINT64_MAX / 4), UINT32_MAX);
}

TEST(OomWitness, EachKillThatWasCountedProvesOneDeath) {
  OomWitness witness;
  EXPECT_FALSE(witness.proves(5)) << "nothing to compare with";
  witness.look(5);
  EXPECT_FALSE(witness.proves(std::nullopt));
  EXPECT_FALSE(witness.proves(5));
  EXPECT_TRUE(witness.proves(7));
  EXPECT_TRUE(witness.proves(7));
  EXPECT_FALSE(witness.proves(7)) << "two kills, two deaths";
  witness.look(8);
  EXPECT_TRUE(witness.proves(8)) << "counted just before the look, its victim dies just after it";
  EXPECT_FALSE(witness.proves(8));
  witness.look(9);
  witness.look(9);
  EXPECT_FALSE(witness.proves(9)) << "kills of others, looked at before";
  witness.look(std::nullopt);
  EXPECT_FALSE(witness.proves(10));
}

// Goal: a living process is never taken for dead because the loop still held an event of a
// descriptor that was closed in the same turn, and whose place its own has taken.
TEST(WatchDeath, IsNotWokenByWhatHappenedToAnotherDescriptor) {
  boost::asio::io_context loop;
  auto first = os::make_pipe(), second = os::make_pipe();
  const auto self = os::Pidfd::open(::getpid());
  ASSERT_TRUE(first && second && self);
  std::unique_ptr<FdWatch> one, two, alive;
  int deaths = 0;
  // Whichever is called first ends the other one, whose event is there already.
  const auto replace = [&](std::unique_ptr<FdWatch>& other) {
    if (alive) return;
    other.reset();
    alive = watch_death(loop, *self, [&] { ++deaths; });
  };
  one = std::make_unique<FdWatch>(loop, first->read.get(), [&] { one->stop(), replace(two); });
  two = std::make_unique<FdWatch>(loop, second->read.get(), [&] { two->stop(), replace(one); });
  ASSERT_EQ(::write(first->write.get(), "x", 1), 1);
  ASSERT_EQ(::write(second->write.get(), "x", 1), 1);
  for (int i = 0; i < 20; ++i) loop.poll();
  EXPECT_TRUE(alive);
  EXPECT_EQ(deaths, 0);
}

// Goal: what an object has put on a loop that it does not own never runs after the object's end.
TEST(EventLoop, AGuardedHandlerRunsUntilItsOwnerEnds) {
  EventLoop loop;
  Alive alive;
  int runs = 0;  // on the loop's thread
  boost::asio::post(loop.context(), alive.guard([&] { ++runs; }));
  loop.run([&] {
    EXPECT_TRUE(loop.on_its_thread());
    boost::asio::post(loop.context(), alive.guard([&] { ++runs; }));
    alive.end();
  });
  loop.run([&] { EXPECT_EQ(runs, 1); });
}

TEST(Fingerprint, TellsFieldsAndBytesApart) {
  const auto base = fingerprint("f", "s", "payload");
  EXPECT_EQ(base, fingerprint("f", "s", "payload"));
  EXPECT_NE(base, fingerprint("fs", "", "payload"));
  EXPECT_NE(base, fingerprint("f", "s", "payloae"));
  EXPECT_NE(fingerprint("f", "", std::string(8, '\0')), fingerprint("f", "", std::string(9, '\0')));
  EXPECT_NE(fingerprint("f", "", "12345678a"), fingerprint("f", "", "12345678b"));
}

}  // namespace
}  // namespace keelback::host
