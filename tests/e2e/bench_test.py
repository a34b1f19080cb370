"""The performance laboratory's commands on real pools: short runs of each, and in the chaos tier the gate itself, live."""
import json
import math
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, KeelbackTest, level, main  # noqa: E402

OK, REGRESSED, USAGE, VOID, INCONCLUSIVE = range(5)
HELLO = ROOT / "examples" / "hello.py"
BESIDE = ROOT / "tests" / "apps" / "beside.py"


class Bench(KeelbackTest):
    def bench(self, codes, *args, timeout=170):
        """Runs `keelback bench ARGS --json`, expects one of the exit codes, and returns (document, code)."""
        done = self.run_cli("bench", *args, "--json", timeout=timeout)
        self.assertIn(done.returncode, codes, f"{args}\nstdout: {done.stdout[-2000:]}\nstderr: {done.stderr}")
        return json.loads(done.stdout), done.returncode


class Commands(Bench):
    def test_a_run_measures_what_it_lists_and_writes_a_page(self):
        out = self.tmp / "out"
        families = ["startup", "call", "recovery", "cleanup"]
        # A loaded machine may make the generator late, and then the run says that it is void.
        document, _ = self.bench((OK, VOID), "run", *families, "--profile", "quick", "--blocks", "1", "--out", str(out))
        listed, _ = self.bench((OK,), "list")
        for family in listed["families"]:
            if family["name"] in families:
                measured = next(one for one in document["families"] if one["name"] == family["name"])
                self.assertNotIn("error", measured)
                rows = [row["id"] for row in measured["rows"]]
                # Counting system calls needs a system that lets one process trace another.
                self.assertEqual([], [metric["id"] for metric in family["metrics"] if metric["id"] not in rows and "syscalls" not in metric["id"]])
        self.assertEqual([], document["broken"], "nothing was lost or left")
        rows = {row["id"]: row["median"] for one in document["families"] for row in one["rows"]}
        # A small call allocates nothing, in any thread of the process; one in fifty is room for what the loop does now and then.
        self.assertLess(rows["call.caller_allocations"], 0.02)
        page = (out / "report.html").read_text()
        self.assertIn("</html>", page)
        self.assertNotIn("http://", page)
        self.assertIn("From nothing to a pool of four", page)
        for name in ("report.json", "report.md", "junit.xml"):
            self.assertGreater((out / name).stat().st_size, 100, name)
        # The page can be made anew.
        (out / "report.html").unlink()
        self.bench((OK,), "report", str(out))
        self.assertEqual(page, (out / "report.html").read_text())

    def test_only_good_runs_become_a_baseline_and_only_like_is_held_against_like(self):
        out, history = self.tmp / "out", self.tmp / "history.jsonl"
        self.bench((OK, VOID), "run", "startup", "--profile", "quick", "--blocks", "2", "--out", str(out))
        report = out / "report.json"
        document = json.loads(report.read_text())
        report.write_text(json.dumps(dict(document, void=["the machine was asleep"])))
        refused, _ = self.bench((USAGE,), "baseline", "accept", str(out), "--reason", "x", "--file", str(history))
        self.assertIn("the machine was asleep", refused["error"]["message"])
        report.write_text(json.dumps(dict(document, void=[])))
        self.bench((OK,), "baseline", "accept", str(out), "--reason", "the first", "--file", str(history))
        shown, _ = self.bench((OK,), "baseline", "show", str(out), "--file", str(history))
        self.assertEqual(["the first"], [record["reason"] for record in shown["records"]])
        self.assertTrue(shown["against"])
        for row in shown["against"]:
            self.assertAlmostEqual(0, row["change_percent"], places=6, msg=row["id"])
        report.write_text(json.dumps(dict(document, void=[], topology="elsewhere")))
        refused, _ = self.bench((USAGE,), "baseline", "show", str(out), "--file", str(history))
        self.assertIn("the topology differs", refused["error"]["message"])

    def test_the_capacity_question_is_answered_in_words(self):
        out = self.tmp / "out"
        # A function that waits 2 ms: one worker cannot carry 10000 a second, whatever the machine.
        arguments = ("app", str(ROOT / "lab" / "python" / "apps" / "bench_probe.py"), "sleep_ms", "--payload", "[2]", "--workers", "1,2", "--profile", "quick", "--p99", "200", "--out", str(out))
        document, _ = self.bench((OK, VOID), *arguments)
        one, two = document["pools"]
        self.assertLess(one["most_per_second"], 500)
        self.assertGreater(two["most_per_second"], one["most_per_second"])
        self.assertIn("Set pool.workers = ", " ".join(document["advice"]["sentences"]))
        self.assertIn("Where the knee is", (out / "report.html").read_text())
        document, _ = self.bench((REGRESSED,), *arguments, "--rate", "10000")
        self.assertFalse(document["advice"]["enough"])
        failed, _ = self.bench((USAGE,), "app", str(HELLO), "no_such_function", "--workers", "1", "--profile", "quick")
        self.assertIn("no_such_function", failed["error"]["message"])

    def test_a_slow_first_call_is_told_from_the_later_ones(self):
        app = ROOT / "tests" / "apps" / "broken" / "slow_first_call.py"
        arguments = ("--workers", "1", "--profile", "quick", "--p99", "1000")
        slow, _ = self.bench((OK, VOID), "app", str(app), "predict", *arguments)
        self.assertGreaterEqual(slow["first_call"]["first_ms"], 400)
        self.assertIn("@keelback.setup", slow["first_call"]["sentence"])
        quick, _ = self.bench((OK, VOID), "app", str(app), "ready", *arguments, "--payload", "[]")
        self.assertNotIn("sentence", quick["first_call"])

    def test_a_row_against_a_peer_says_what_it_needs_to_be_believed(self):
        document, _ = self.bench((OK,), "peers", "--only", "attachment", "--blocks", "2", "--python", sys.executable)
        rows = {row["id"]: row for row in document["rows"]}
        places = ["pinned", "apart"] if len(os.sched_getaffinity(0)) > 1 else ["pinned"]
        self.assertEqual({f"attachment.{way}.{place}" for way in ("there", "back") for place in places}, set(rows))
        for row in rows.values():
            self.assertEqual((1.5, True, 2), (row["target"], row["at_most"], row["blocks"]))
            low, high = row["interval"]
            self.assertTrue(low <= row["ratio"] <= high and row["theirs"] > 0, row)
            self.assertEqual(row["ratio"] <= row["target"], row["met"])
            if not row["met"]:
                self.assertTrue(row["limit"] and row["missed_by"] > 0, row)

    def test_wrong_words_are_usage(self):
        for arguments in (("run", "nonsense"), ("report", str(self.tmp)), ("baseline", "show", "--file", str(self.tmp / "none")),
                          ("run", "--profile", "hasty"), ("compare", "--base", "/bin/true", "--head", str(KEELBACK))):
            self.bench((USAGE,), *arguments)


class SharedCalls(Bench):
    """What the laboratory says of calls that run beside each other in one worker."""

    def test_a_function_that_waits_gets_many_calls_at_once_and_few_workers(self):
        out = self.tmp / "out"
        document, _ = self.bench((OK, VOID), "app", str(BESIDE), "waits", "--payload", "[50]", "--workers", "1,2", "--p99", "1000",
                                 "--profile", "quick", "--out", str(out))
        beside = document["concurrency"]
        self.assertEqual((16, 16, True), (beside["declared"], beside["advised"], beside["measured"]), beside)
        self.assertGreater(beside["waiting"], 0.8)
        self.assertEqual([1, 2, 4, 8, 16], [step["in_flight"] for step in beside["steps"]])
        # 50 ms each: 20 a second alone, and 320 where 16 wait at once. No machine is faster.
        self.assertLessEqual(beside["steps"][0]["per_second"], 20)
        self.assertGreater(beside["steps"][-1]["per_second"], 8 * beside["steps"][0]["per_second"])
        self.assertEqual((16, 1), (document["advice"]["concurrency"], document["advice"]["workers"]), document["advice"])
        page = (out / "report.html").read_text()
        self.assertIn("@keelback.function(concurrency=16)", page)
        self.assertIn("Latency over calls in flight", page)

    def test_a_function_that_computes_gets_one_call_at_a_time(self):
        document, _ = self.bench((OK, VOID), "app", str(BESIDE), "computes", "--payload", "[60000]", "--workers", "1", "--p99", "500", "--profile", "quick")
        beside = document["concurrency"]
        self.assertEqual((4, 1, True), (beside["declared"], beside["advised"], beside["measured"]), beside)
        self.assertLess(beside["waiting"], 0.5)
        self.assertEqual(1, document["advice"]["concurrency"])
        self.assertIn("Leave computes exclusive", " ".join(beside["sentences"]))

    def test_a_function_that_declares_nothing_is_run_beside_itself_only_where_that_is_asked_for(self):
        arguments = ("app", str(BESIDE), "waits_alone", "--payload", "[10]", "--workers", "1", "--p99", "1000", "--profile", "quick")
        document, _ = self.bench((OK, VOID), *arguments)
        beside = document["concurrency"]
        self.assertEqual((1, False, 1), (beside["declared"], beside["measured"], len(beside["steps"])), beside)
        self.assertGreaterEqual(beside["advised"], 4)
        self.assertIn("if waits_alone is safe beside itself", " ".join(beside["sentences"]))
        document, _ = self.bench((OK, VOID), *arguments, "--concurrency", "4,8")
        beside = document["concurrency"]
        self.assertEqual([1, 4, 8], [step["in_flight"] for step in beside["steps"]])
        self.assertEqual((1, 8, True), (beside["declared"], beside["advised"], beside["measured"]), beside)
        # The pools are measured with what is advised.
        self.assertGreater(document["pools"][0]["most_per_second"], 4 * beside["steps"][0]["per_second"])

    def test_a_pool_that_grows_is_measured_also_from_zero(self):
        document, _ = self.bench((OK,), "peers", "--only", "grow,zero", "--blocks", "2", "--python", sys.executable)
        rows = {row["id"]: row for row in document["rows"]}
        self.assertEqual({"grow.wave", "zero.first"}, set(rows))
        self.assertGreaterEqual(rows["grow.wave"]["ours"], 1000, "each call waits so long")
        self.assertLess(rows["grow.wave"]["ours"], 32 / 2 * 1000, "two workers would take so long")
        self.assertGreater(rows["zero.first"]["theirs"], 0)
        self.assertEqual(1.5, rows["zero.first"]["target"])

    def test_shared_calls_are_measured_beside_exclusive_ones_and_over_http(self):
        document, _ = self.bench((OK,), "peers", "--only", "shared", "--blocks", "2", "--python", sys.executable)
        rows = {row["id"]: row for row in document["rows"]}
        self.assertLessEqual({"shared.wait.call", "shared.wait.http", "shared.rate.exclusive", "shared.rate.exclusive.submitted"}, set(rows))
        for name in ("shared.wait.call", "shared.wait.http"):
            self.assertGreaterEqual(rows[name]["ours"], 200, "each call waits so long")
            self.assertLess(rows[name]["ours"], 64 / 2 * 200, "one after another they would take so long")
            self.assertEqual(240, rows[name]["target"])
        self.assertGreater(rows["shared.rate.exclusive"]["theirs"], 0)
        # An alternative is measured, or it is said why not.
        for peer in ("uvicorn", "litserve", "ray_serve"):
            measured = f"shared.wait.{peer}.http" in rows
            self.assertNotEqual(measured, any(why.startswith(peer + ": ") for why in document["not_measured"]), (peer, document))

    def test_a_function_gets_batches_if_a_run_of_many_calls_is_as_quick_as_one(self):
        out = self.tmp / "out"
        arguments = ("--workers", "1", "--p99", "1000", "--profile", "quick")
        document, _ = self.bench((OK, VOID), "app", str(BESIDE), "together", "--payload", "[20]", *arguments, "--out", str(out))
        batch, steps = document["batch"], document["concurrency"]["steps"]
        self.assertEqual((8, 3, 8), (batch["declared"], batch["declared_wait_ms"], batch["advised"]), document["concurrency"])
        self.assertEqual([1, 2, 4, 8, 16], [step["in_flight"] for step in steps])
        self.assertGreater(steps[-1]["batch"], 4, "of sixteen in flight eight wait while eight run")
        self.assertGreater(steps[-1]["per_second"], 3 * steps[0]["per_second"])
        self.assertEqual(3, len(batch["waits"]), batch)
        self.assertEqual(0, batch["waits"][0]["wait_ms"])
        self.assertGreater(min(wait["batch"] for wait in batch["waits"]), 1, batch)
        self.assertIn("@keelback.function(batch=8", (out / "report.html").read_text())

        document, _ = self.bench((OK, VOID), "app", str(BESIDE), "in_turn", "--payload", "[20]", *arguments)
        self.assertEqual((8, 1), (document["batch"]["declared"], document["batch"]["advised"]), document["concurrency"])
        self.assertIn("Leave batch out of in_turn", " ".join(document["concurrency"]["sentences"]))

    def test_batches_are_measured_against_one_by_one_and_over_http(self):
        document, _ = self.bench((OK,), "peers", "--only", "batches", "--blocks", "2", "--python", sys.executable)
        rows = {row["id"]: row for row in document["rows"]}
        self.assertGreater(rows["batches.rate.alone"]["ours"], 0)
        self.assertGreater(rows["batches.rate.alone"]["theirs"], 0)
        unmeasured = document["not_measured"]
        for peer in ("litserve", "mosec"):
            measured = f"batches.rate.{peer}.http" in rows
            self.assertNotEqual(measured, any(why.startswith(peer + ": ") for why in unmeasured), (peer, document))
        self.assertNotEqual("batches.model.alone" in rows, any(why.startswith("model: ") for why in unmeasured), document)


class Gate(Bench):
    """The gate on this machine, as it is. Chaos tier: minutes."""

    def compare(self, codes, *args):
        out = self.tmp / "out"
        done = self.bench(codes, "compare", "--base", str(KEELBACK), "--head", str(KEELBACK), "--out", str(out), *args, timeout=900)
        self.assertIn("</html>", (out / "report.html").read_text())
        return done

    def test_a_build_against_itself_is_no_regression_and_the_canary_is_caught(self):
        document, code = self.compare((OK, VOID), "--profile", "pr")
        self.assertEqual([], [metric["id"] for metric in document["metrics"] if metric["gated"] and metric["verdict"] == "REGRESSED"])
        # What is called exact must be: one switch a call at each end, whatever the scheduler's mood.
        counters = {row["id"]: row for row in document["counters"]}
        self.assertEqual([], [row["id"] for row in document["counters"] if row["worse"]])
        for name in ("counters.worker_switches", "counters.caller_switches"):
            for side in ("base", "head"):
                self.assertAlmostEqual(1, counters[name][side], delta=0.05, msg=name)
        # A machine so loud that even ten percent drown makes the run void, which is what void is for.
        self.assertEqual(code == OK, document["canary"]["caught"] and not document["void"])
        print(f"took {document['took_s']:.0f} s, {len(document['blocks'])} blocks", file=sys.stderr)

    def test_ten_percent_are_caught(self):
        document, _ = self.compare((REGRESSED, VOID), "--profile", "pr", "--inject", "10")
        verdicts = {metric["id"]: metric["verdict"] for metric in document["metrics"]}
        self.assertIn(verdicts["call.p10_us"], ("REGRESSED", "INCONCLUSIVE") if document["void"] else ("REGRESSED",), verdicts)
        # The canary burns its ten percent on top of those that the head burns already.
        canary = {metric["id"]: metric["change_percent"] for metric in document["canary"]["metrics"]}
        self.assertTrue(6 < canary["call.p10_us"] < 16, canary)

    def test_five_percent_are_caught_at_a_rate(self):
        """No pass or fail but for silence called fine: prints how often, with its interval (Wilson)."""
        runs, caught, fine = level(2, 6, 20), 0, 0
        for seed in range(runs):
            document, _ = self.compare((OK, REGRESSED, VOID), "--profile", "quick", "--inject", "5", "--seed", str(seed + 1))
            verdict = next(metric["verdict"] for metric in document["metrics"] if metric["id"] == "call.p10_us")
            caught += verdict in ("REGRESSED", "SLOWER-WITHIN-TOLERANCE")
            fine += verdict == "OK"
        z, share = 1.96, caught / runs
        centre, half = (share + z * z / (2 * runs)) / (1 + z * z / runs), z * math.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs)) / (1 + z * z / runs)
        print(f"+5 % caught in {caught} of {runs} quick runs: {share:.0%} [{max(0, centre - half):.0%}, {min(1, centre + half):.0%}], called fine in {fine}", file=sys.stderr)
        self.assertLessEqual(fine, max(1, runs // 4))


if __name__ == "__main__":
    main()
