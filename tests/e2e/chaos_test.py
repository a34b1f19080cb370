"""keelback chaos, as a person and as CI meet it. On the simulator; the chaos tier runs it on real processes."""
import json
import os
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, KeelbackTest, main  # noqa: E402

PASS, SAFETY, LIVENESS, BUDGET, INVALID, ABORTED, RESIDUE, INCONCLUSIVE = range(8)
SKIPPED, USAGE = 77, 64
FIELDS = {"verdict", "why", "exit", "seed", "scenario", "backend", "level", "phases", "faults", "invariants",
          "unexplained", "residue", "not_tested", "repro"}


class OnTheSimulator(KeelbackTest):
    def chaos(self, code, *args, **options):
        done = self.run_cli("chaos", *args, **options)
        self.assertEqual(code, done.returncode, f"{args}\nstdout: {done.stdout}\nstderr: {done.stderr}")
        return done.stdout, done.stderr

    def chaos_json(self, code, *args, **options):
        return json.loads(self.chaos(code, *args, "--json", **options)[0])

    def scenario(self, text):
        path = Path(self.tmp) / "mine.toml"
        path.write_text(text)
        return str(path)

    def test_a_run_leaves_its_reports_and_can_be_replayed_and_judged_again(self):
        out = str(Path(self.tmp) / "out")
        report = self.chaos_json(PASS, "run", "worker-kill", "--backend", "sim", "--seed", "42", "--out", out)
        self.assertEqual(set(), FIELDS - set(report))
        self.assertEqual(("PASS", 0, 42, 0), tuple(report[k] for k in ("verdict", "exit", "seed", "unexplained")))
        self.assertEqual({"baseline", "during", "after"}, set(report["phases"]))
        for stats in report["phases"].values():
            self.assertEqual(set(), {"offered", "ok", "success", "p50_ms", "p99_ms", "outcomes"} - set(stats))
        fault, = report["faults"]
        self.assertTrue(fault["bit"] and fault["proof"])
        self.assertLess(0, fault["ladder"]["respawn_ms"])
        for name in ("report.html", "report.json", "junit.xml", "summary.md", "plan.json", "events.jsonl"):
            self.assertTrue((Path(out) / name).stat().st_size > 0, name)
        self.assertEqual(0, int(xml.parse(Path(out) / "junit.xml").getroot().get("failures")))
        self.assertIn("event for event", self.chaos(PASS, "replay", out)[0])
        self.assertEqual(report, self.chaos_json(PASS, "judge", out))  # every word of it
        (Path(out) / "report.html").unlink()
        self.chaos(PASS, "report", out)
        self.assertTrue((Path(out) / "report.html").exists())

    def test_the_report_tells_calls_at_once_and_what_a_death_was_to_them(self):
        out = Path(self.tmp) / "out"
        report = self.chaos_json(PASS, "run", "shared-block", "--backend", "sim", "--out", str(out))
        self.assertGreater(report["calls_at_once"]["most"], 2)
        for each in report["calls_at_once"]["workers"]:
            self.assertLessEqual(each["mean"], each["most"])
        self.assertGreaterEqual(report["event_loops"]["blocks"], 1)
        death, = report["deaths"]
        self.assertIn("(together_block, ", death["culprit"])
        self.assertGreater(death["bystanders"], 0)
        self.assertEqual(0, death["suspects"])
        self.assertEqual([death["worker"]], report["faults"][0]["target"])
        page = (out / "report.html").read_text()
        self.assertIn("Calls at once in each slot", page)
        self.assertIn("(together_block, ", page)
        self.chaos_json(PASS, "run", "shared-kill", "--backend", "sim", "--out", str(out))
        self.assertIn("worker_died, suspect", (out / "report.html").read_text())
        alone = self.chaos_json(PASS, "run", "worker-kill", "--backend", "sim", "--out", str(out))
        self.assertEqual(1, alone["calls_at_once"]["most"])
        self.assertNotIn("Calls at once in each slot", (out / "report.html").read_text())

    def test_the_tutorial_says_what_happens(self):
        """Its first run, word by word, and its own scenario from the first line to the last."""
        text = (ROOT / "docs" / "chaos.md").read_text()
        shown = text[text.index("$ keelback chaos run worker-kill\n"):].split("```")[0].splitlines()[1:]
        self.assertEqual("  …", shown.pop())
        self.assertEqual(shown, self.chaos(PASS, "run", "worker-kill")[0].splitlines()[:len(shown)])
        own = self.tmp / "chat-deploy.toml"
        own.write_text(text[text.index("# chat-deploy.toml\n"):].split("```")[0])
        out = self.chaos(0, "check", str(own))[0]
        self.assertIn(out.replace(str(self.tmp) + "/", "").strip(), text)
        for level in ("light", "medium", "heavy"):
            self.chaos(PASS, "run", str(own), "--level", level)

    def test_the_seed_is_the_plan(self):
        plans = [self.chaos(0, "plan", "cascading-failure", "--seed", seed, "--json")[0] for seed in "778"]
        self.assertEqual(plans[0], plans[1])
        self.assertNotEqual(plans[0], plans[2])

    def test_a_placebo_is_never_a_pass(self):
        report = self.chaos_json(INVALID, "run", "worker-kill", "--placebo")
        self.assertEqual("INVALID", report["verdict"])
        self.assertIn("--placebo", report["repro"])

    def test_too_little_success_during_the_faults_is_a_budget_and_no_more(self):
        file = self.scenario('extends = "worker-stop-for-good"\nname = "strict"\n[during]\nok = 1.0\n')
        report = self.chaos_json(BUDGET, "run", file, "--level", "light", "--seed", "2")
        self.assertLess(report["phases"]["during"]["success"], 1)
        self.assertGreaterEqual(report["phases"]["after"]["success"], 0.99)

    def test_what_a_backend_cannot_inject_is_skipped(self):
        self.assertIn("zygote.kill", self.chaos_json(SKIPPED, "run", "zygote-kill", "--backend", "sim")["why"])

    def test_several_runs_count_as_their_worst(self):
        out = Path(self.tmp) / "out"
        report = self.chaos_json(PASS, "run", "worker-kill", "zygote-kill", "--seeds", "2", "--out", str(out))
        self.assertEqual(["PASS", "PASS", "SKIPPED", "SKIPPED"], [run["verdict"] for run in report["runs"]])
        self.assertEqual(["worker-kill-1", "worker-kill-2", "zygote-kill-1", "zygote-kill-2"], sorted(os.listdir(out)))

    def test_wrong_words_get_the_nearest_right_one_and_a_code_of_their_own(self):
        self.assertIn("did you mean worker-kill?", self.chaos(USAGE, "run", "worker-kil")[1])
        self.assertIn("did you mean run?", self.chaos(USAGE, "rnu")[1])
        self.assertIn("did you mean --level?", self.chaos(USAGE, "run", "worker-kill", "--levle", "light")[1])
        self.assertIn("light, medium or heavy", self.chaos(USAGE, "run", "worker-kill", "--level", "mild")[1])
        self.assertIn("--backend python", self.chaos(USAGE, "run", "worker-kill", "--app", "a.py", "--backend", "sim")[1])
        self.assertIn("plan.json", self.chaos(USAGE, "judge", self.tmp)[1])
        self.assertEqual("usage", self.chaos_json(USAGE, "run")["error"]["kind"])

    def test_check_finds_what_is_wrong_before_anything_runs(self):
        self.assertTrue(self.chaos_json(0, "check", "worker-kill")["ok"])
        file = self.scenario('name = "x"\nwhy = "y"\n[[fault]]\nid = "k"\nclass = "proc.kil"\n[during]\nokk = 0.5\n')
        out, _ = self.chaos(USAGE, "check", file)
        self.assertIn("did you mean proc.kill?", out)
        self.assertIn("did you mean ok?", out)

    def test_the_safety_lever_refuses_every_run(self):
        _, err = self.chaos(USAGE, "run", "worker-kill", env={"KEELBACK_CHAOS_DISABLED": "1"})
        self.assertIn("KEELBACK_CHAOS_DISABLED", err)

    def test_list_names_what_there_is(self):
        listed = self.chaos_json(0, "list")
        self.assertGreaterEqual(len(listed["scenarios"]), 25)
        self.assertTrue(all(each["proof"] and each["backends"] for each in listed["classes"]))
        self.assertEqual([], self.chaos_json(0, "list", "--tag", "no-such-tag")["scenarios"])


if __name__ == "__main__":
    main()
