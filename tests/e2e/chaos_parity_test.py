"""One scenario, one seed, three engines: each must pass it, and the rungs of each ladder come in one order.

Where they differ, the simulator's model, the fake worker or the pool is wrong about something. A run on a machine too busy to send its load on
time or to serve its baseline (INVALID), to answer as fast as there (I13), or to let a killed process go, says nothing of the engines: it is made again, and alone, for the other engines'
processes are a load too. A run that fails is shown with what its pool said.
"""
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, concurrently, main  # noqa: E402

BACKENDS = ("sim", "fake", "python")
TRIES = 3
# What must come before what, where both were reached. A rung is counted from the bite or from the undoing (docs/chaos.md, The ladder), and rungs are
# compared where they start at the same moment.
ORDER = (("detect_ms", "respawn_ms"), ("respawn_ms", "capacity_ms"))
FROM_UNDO = ("capacity_ms", "service_ms", "drained_ms", "clean_ms")


def instant(fault, rung):
    """When the rung was reached, on the run's clock; None: it was not, or the fault has no such rung."""
    after = fault["ladder"].get(rung)
    lasted = fault["undo_ms"] is not None
    return None if after is None else after + (fault["undo_ms"] if lasted and rung in FROM_UNDO else fault["bite_ms"])


def noisy(report):
    """The machine was too busy for this run to say anything of its engine."""
    why = report["why"]
    if "this machine is too busy" in why or why.startswith(("I13 ", "the baseline is only ")):
        return True
    # No fault here makes a process that SIGKILL does not end: the kernel was busy with it (state D).
    return "does not die; its slot is refilled" in report["pool.log"]


def in_groups(things, size):
    return [things[i:i + size] for i in range(0, len(things), size)]


class ParityTest(KeelbackTest):
    def one(self, scenario, backend, *options):
        out = self.tmp / f"{scenario}-{backend}-{time.monotonic_ns()}"
        done = self.run_cli("chaos", "run", scenario, "--backend", backend, "--level", "light", "--seed", "7", "--json", "--out", str(out),
                            *options, timeout=120)
        report = json.loads(done.stdout)
        self.assertEqual(report["exit"], done.returncode)
        log = out / "pool.log"
        report["pool.log"] = log.read_text()[-4000:] if log.exists() else ""
        shutil.rmtree(out)
        return report

    def report(self, scenario, backend, *options, first=None):
        report = first or self.one(scenario, backend, *options)
        for _ in range(TRIES - 1):
            if not noisy(report):
                break
            report = self.one(scenario, backend, *options)
        return report

    @staticmethod
    def told(report):
        """What the run has to say for itself; of one that failed, everything."""
        if report["exit"] in (0, 4, 77):
            return f"{report['verdict']}: {report['why']}"
        return "\n".join([f"{report['verdict']}: {report['why']}", json.dumps(report["faults"]), json.dumps(report["unexplained_calls"]),
                          report["pool.log"]])

    def reports(self, runs, threads, *options):
        """(scenario, backend) -> report, in order; a run mostly waits, so several share the machine."""
        firsts = concurrently([lambda each=each: self.one(*each, *options) for each in runs], threads)
        return [(run, self.report(*run, *options, first=first)) for run, first in zip(runs, firsts)]

    def compare(self, scenario):
        runs = [(scenario, backend) for backend in BACKENDS]
        return self.agree(scenario, {backend: report for (_, backend), report in self.reports(runs, 3)})

    def agree(self, scenario, reports):
        told = "\n".join(f"{backend} {self.told(r)}" for backend, r in reports.items())
        ran = {backend: r for backend, r in reports.items() if r["verdict"] != "SKIPPED"}
        self.assertGreaterEqual(len(ran), 2, f"{scenario} compares nothing: {told}")
        self.assertEqual({"PASS"}, {r["verdict"] for r in ran.values()}, f"{scenario}: {told}")
        for backend, report in ran.items():
            # The same faults, as often.
            self.assertEqual([(f["id"], f["round"], f["bit"]) for f in report["faults"]],
                             [(f["id"], f["round"], f["bit"]) for f in next(iter(ran.values()))["faults"]], (scenario, backend))
            for fault in report["faults"]:
                if fault["class"].startswith("pool."):
                    continue  # an operator's order: the replacement comes first, and then the old worker goes
                for first, then in ORDER:
                    early, late = instant(fault, first), instant(fault, then)
                    if early is not None and late is not None:
                        self.assertLessEqual(early, late, (scenario, backend, fault["id"], fault["ladder"]))
        return ran

    def scenarios(self):
        return json.loads(self.run_cli("chaos", "list", "--json").stdout)["scenarios"]

    def listed(self):
        return [s["name"] for s in self.scenarios() if len(s["backends"]) > 1]


class Few(ParityTest):
    """A death, a silence, a request that kills, and a death among many calls: in the slow tier."""

    def test_the_engines_agree(self):
        for scenario in ("worker-kill", "worker-stop", "poison-pill", "shared-crash"):
            with self.subTest(scenario):
                self.assertEqual(set(BACKENDS), set(self.compare(scenario)))

    def test_the_engines_agree_that_a_placebo_tests_nothing(self):
        for backend in BACKENDS:
            report = self.report("worker-kill", backend, "--placebo")
            self.assertEqual(("INVALID", 4), (report["verdict"], report["exit"]), report["why"])


class All(ParityTest):
    """Every scenario of the library: in the chaos tier."""

    def test_the_engines_agree(self):
        names = self.listed()
        self.assertGreaterEqual(len(names), 25)
        for some in in_groups(names, 2):
            reports = self.reports([(scenario, backend) for scenario in some for backend in BACKENDS], 6)
            for scenario in some:
                with self.subTest(scenario):
                    self.agree(scenario, {backend: report for (name, backend), report in reports if name == scenario})

    def test_what_one_engine_alone_can_inject_passes_there(self):
        alone = [(each["name"], each["backends"][0]) for each in self.scenarios() if len(each["backends"]) == 1]
        self.assertGreaterEqual(len(alone), 10)
        for (scenario, backend), report in self.reports(alone, 2):
            with self.subTest(scenario):
                self.assertEqual("PASS", report["verdict"], self.told(report))


class Placebos(ParityTest):
    """Every scenario that the simulator cannot run, with faults that do nothing: in the chaos tier. Those it can run: `ChaosOnTheSimulator.EveryPlaceboIsInvalid`."""

    def test_none_is_a_pass(self):
        runs = [(each["name"], each["backends"][0]) for each in self.scenarios() if "sim" not in each["backends"]]
        self.assertGreaterEqual(len(runs), 30)
        for (scenario, _), report in self.reports(runs, 4, "--placebo"):
            with self.subTest(scenario):
                self.assertEqual(("INVALID", 4, 0), (report["verdict"], report["exit"], report["unexplained"]), self.told(report))


if __name__ == "__main__":
    main()
