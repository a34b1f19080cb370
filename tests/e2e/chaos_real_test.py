"""keelback chaos on real processes: the user's own application, faults with proof, and nothing left of them, however a run ends."""
import html
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, STRETCH, KeelbackTest, alive, main, marked, proc_stat, wait_until  # noqa: E402
from postgres_server import Missing, programs  # noqa: E402

PASS, SAFETY, LIVENESS, BUDGET, INVALID, ABORTED, RESIDUE, INCONCLUSIVE = range(8)
# On a busy machine the service is late (LIVENESS), or the load generator itself is (INCONCLUSIVE).
HEALTHY = (PASS, LIVENESS, INCONCLUSIVE)
BROKEN = ROOT / "tests" / "apps" / "broken"

# A run in half the time: for tests of the laboratory, not of the pool.
QUICK = """name = "quick-{base}"
why = "{base}, in less time."
extends = "{base}"
[load]
rate = 100
ramp = "200ms"
[baseline]
for = "1s"
[recovery]
quiet = "300ms"
for = "1200ms"
"""


class ChaosTest(KeelbackTest):
    def chaos(self, codes, *args, **options):
        options.setdefault("timeout", 120 * STRETCH)
        done = self.run_cli("chaos", *args, **options)
        codes = codes if isinstance(codes, tuple) else (codes,)
        self.assertIn(done.returncode, codes, f"{args}\nstdout: {done.stdout}\nstderr: {done.stderr}")
        return done.stdout

    def report(self, codes, *args, **options):
        return json.loads(self.chaos(codes, *args, "--json", **options))

    def quick(self, base):
        path = self.tmp / f"quick-{base}.toml"
        path.write_text(QUICK.format(base=base))
        return str(path)

    def assert_sound(self, report):
        """What holds whatever the machine is busy with: it passes, or other programs' work shows in the latencies (I13)."""
        reasons = [each["text"] for each in report["reasons"] if not each["text"].startswith("I13 ")]
        self.assertTrue(report["exit"] == PASS or not reasons, reasons)
        broken = {each["id"]: each.get("witness") for each in report["invariants"] if each["status"] in ("broken", "unknown")}
        self.assertEqual({}, {key: value for key, value in broken.items() if key != "I13"}, report["why"])
        self.assertEqual(0, report["unexplained"], report["unexplained_calls"])
        self.assertEqual([], report["residue"])
        for fault in report["faults"]:
            self.assertTrue(fault["bit"], f"{fault['id']}: {fault['proof']}")
        self.assertEqual(report["verification"]["offered"], report["verification"]["ok"])


class Smoke(ChaosTest):
    """Six scenarios on real processes without Python: kill, stop, half a frame, two faults, a failing start, a poisonous request."""

    def smoke(self, base):
        report = self.report(HEALTHY, "run", self.quick(base), "--backend", "fake", "--level", "light", "--seed", "3")
        self.assert_sound(report)

    def test_kill(self):
        self.smoke("worker-kill")

    def test_stop(self):
        self.smoke("worker-stop")

    def test_half_a_frame(self):
        self.smoke("half-frame")

    def test_kill_and_kill_again(self):
        self.smoke("cascading-failure")

    def test_kill_and_no_start(self):
        self.smoke("kill-then-no-start")

    def test_poison(self):
        self.smoke("poison-pill")

    def test_a_placebo_is_invalid(self):
        report = self.report(INVALID, "run", self.quick("worker-kill"), "--backend", "fake", "--placebo")
        self.assertEqual("INVALID", report["verdict"])


class Cluster(ChaosTest):
    """Three daemons and a PostgreSQL of the run's own."""

    def setUp(self):
        super().setUp()
        try:
            programs()
        except Missing as missing:
            self.skipTest(str(missing))

    def test_a_node_is_killed(self):
        report = self.report(HEALTHY, "run", "--nodes", "3", "node-kill", "--seed", "3")
        self.assert_sound(report)
        told = {each["id"]: each["status"] for each in report["invariants"]}
        for rule in ("owner-commits", "state-forward", "one-run", "told-once", "I5", "I6", "I7", "I11"):
            self.assertEqual("holds", told[rule], rule)

    def test_a_placebo_is_invalid(self):
        self.assertEqual("INVALID", self.report(INVALID, "run", "--nodes", "3", "node-pause", "--placebo")["verdict"])

    def test_a_fault_of_one_pool_is_refused(self):
        done = self.run_cli("chaos", "run", "--nodes", "3", "worker-kill")
        self.assertEqual(64, done.returncode)
        self.assertIn("cannot be", done.stderr)


class ClusterFaults(Cluster):
    """All of its scenarios, on two seeds."""

    def test_scenarios(self):
        for name in ("node-kill", "node-pause", "partition", "database-restart", "database-away", "rolling-deploy"):
            for seed in ("4", "5"):
                with self.subTest(name=name, seed=seed):
                    self.assert_sound(self.report(HEALTHY, "run", "--nodes", "3", name, "--seed", seed))


class OwnApplication(ChaosTest):
    """`keelback chaos run worker-kill --app examples/counter.py --backend python --seed 42 --out out/`"""

    def test_the_documented_run_passes_and_its_directory_is_enough_for_ever(self):
        out = self.tmp / "out"
        app = str(ROOT / "examples" / "counter.py")
        report = self.report(HEALTHY, "run", "worker-kill", "--app", app, "--backend", "python", "--seed", "42",
                             "--level", "light", "--out", str(out))
        self.assert_sound(report)
        fault, = report["faults"]
        self.assertRegex(fault["proof"], r"pidfd says dead .* after signal 9")
        for rung in ("detect", "contain", "typed", "respawn", "capacity"):
            self.assertIsNotNone(fault["ladder"][rung + "_ms"], rung)
        functions = {each["name"]: each for each in report["app_functions"]}
        self.assertEqual({"count", "peek", "hello"}, {name for name, each in functions.items() if each["called"]})
        self.assertEqual("holds", functions["count"]["isolation"])
        self.assertIn("baseline", report["phases"])
        self.assertGreater(report["start"]["import_s"], 0)
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        called = {each["function"] for each in events if each["type"] == "call" and each["origin"] == "load"}
        self.assertLessEqual({"count", "peek", "hello"}, called, "the application's own functions are in the load")
        effects = [each for each in events if each["type"] == "effect"]
        self.assertGreater(len(effects), 300, "workers keep a ledger of the application's functions too")
        self.assertEqual(0, int(xml.parse(out / "junit.xml").getroot().get("failures")) if report["exit"] == PASS else 0)
        self.judged_again(out, report)
        self.offline(out / "report.html")

    def judged_again(self, out, report):
        self.assertEqual(report["verdict"], self.report(report["exit"], "judge", str(out))["verdict"])
        before = (out / "report.html").read_bytes()
        (out / "report.html").unlink()
        self.chaos(0, "report", str(out))  # it writes what was judged, and judges nobody
        self.assertEqual(before, (out / "report.html").read_bytes())

    def offline(self, page):
        text = page.read_text()
        self.assertNotRegex(text, r"(src|href)=[\"']?(https?:)?//", "one file, and nothing from elsewhere")
        for heading in ("What happened", "Faults, their proof", "Workers and sessions", "Losses", "Ledgers", "Invariants",
                        "The application", "Not tested", "Again"):
            self.assertIn(heading, text)
        self.assertIn("keelback chaos run worker-kill", text)

    def test_a_stored_plan_plays_again_on_real_processes(self):
        first, again = self.tmp / "first", self.tmp / "again"
        self.chaos(HEALTHY, "run", self.quick("worker-kill"), "--backend", "fake", "--seed", "5", "--out", str(first))
        self.chaos(HEALTHY, "replay", str(first), "--out", str(again))
        plans = [(each / "plan.json").read_bytes() for each in (first, again)]
        self.assertEqual(plans[0], plans[1])


class Verdicts(ChaosTest):
    """Each by its exit code, on real processes."""

    FOUR_OF_TEN = """name = "four-of-ten"
why = "Nobody answers for more than half of the faults' time."
[settings.pool]
workers = 2
[settings.calls]
deadline = "100ms"
grace = "200ms"
[settings.breaker]
failures = 1000
[load]
rate = 100
ramp = "200ms"
deadline = "100ms"
mix = {{ echo = 1.0 }}
[baseline]
for = "1s"
[recovery]
quiet = "1150ms"
for = "1500ms"
[[fault]]
id = "s"
class = "spawn.fail"
at = "0ms"
for = "900ms"
[[fault]]
id = "k"
class = "proc.kill"
target = "all"
at = "20ms"
[during]
ok = {ok}
"""

    def test_four_calls_of_ten_miss_a_budget_of_five_and_nothing_else(self):
        for backend in ("sim", "fake"):
            for ok, code in ((0.5, BUDGET), (0.2, HEALTHY)):
                with self.subTest(backend=backend, ok=ok):
                    path = self.tmp / f"{ok}.toml"
                    path.write_text(self.FOUR_OF_TEN.format(ok=ok))
                    report = self.report(code, "run", str(path), "--backend", backend, "--level", "medium", "--seed", "1")
                    self.assertTrue(0.3 < report["phases"]["during"]["success"] < 0.5, report["phases"])
                    self.assertEqual(0, report["unexplained"], report["unexplained_calls"])
                    self.assertGreaterEqual(report["phases"]["after"]["success"], 0.99)


class BrokenApplications(ChaosTest):
    """Applications that really are broken are found out, in words that their authors understand."""

    def advice(self, code, app, env=None, settings=None):
        out = self.tmp / "out"
        report = self.report(code, "run", self.quick("worker-kill"), "--app", str(BROKEN / app), "--backend", "python", "--level",
                             "light", "--out", str(out), *(f"--set={key}={value}" for key, value in (settings or {}).items()), env=env or {})
        advice = "\n".join(report["advice"])
        page = (out / "report.html").read_text()
        self.assertIn("What to mend", page)
        self.assertIn(re.sub(r"\W+", " ", advice)[:60].strip(), re.sub(r"\W+", " ", html.unescape(re.sub(r"<[^>]+>", "", page))))
        return report, advice

    def test_state_in_a_global(self):
        report, advice = self.advice(SAFETY, "global_state.py")
        self.assertIn("`add` lets sessions see each other's state", advice)
        self.assertIn("keelback.session().state", advice)

    def test_state_that_outlives_its_session(self):
        self.assertIn("`count` remembers sessions that have ended", self.advice(SAFETY, "keyed_global.py")[1])

    def test_a_handler_that_swallows_everything(self):
        report, advice = self.advice((SAFETY, LIVENESS, INVALID), "swallows.py")
        self.assertIn("`work` cannot be stopped", advice)
        self.assertRegex(advice, r"swallows\.py:\d+: `except:` catches everything")
        self.assertIn("I28", {each["id"] for each in report["invariants"] if each["status"] == "broken"})

    def test_a_first_call_that_loads(self):
        report, advice = self.advice((*HEALTHY, BUDGET), "slow_first_call.py")
        self.assertRegex(advice, r"The first call of `predict` in a new worker takes \d+ ms")
        self.assertIn("@keelback.setup", advice)
        self.assertNotIn("`ready`", advice)

    def test_a_lock_that_an_interrupt_leaves_held(self):
        """Workers that serve on after an interrupt wait for it in vain, and the report names it."""
        report, advice = self.advice((LIVENESS, SAFETY, INVALID), "keeps_lock.py", settings={"calls.after_interrupt": "keep"})
        self.assertIn("`book` leaves keeps_lock.ledger_lock held when it is interrupted", advice)
        self.assertNotIn("`tidy` leaves", advice)
        broken = {each["id"]: each["witness"] for each in report["invariants"] if each["status"] == "broken"}
        self.assertIn("keeps_lock.ledger_lock", broken["I28"])

    def test_a_worker_that_a_stray_signal_ends(self):
        report = self.report(SAFETY, "run", self.quick("term-is-ignored"), "--app", str(BROKEN / "leaves_on_term.py"), "--backend", "python",
                             "--level", "light")
        self.assertRegex(report["why"], r"proc\.term\): worker \d+\.\d+ \(pid \d+\) is gone after a signal that must not end it")

    def test_a_leak_of_a_mebibyte_a_call(self):
        report, advice = self.advice(SAFETY, "leaks.py")
        self.assertRegex(advice, r"`remember` keeps (0\.9|1\.\d) MiB of memory a call")
        self.assertIn("`look` keeps 1 open file(s) a call", advice)

    def test_a_lock_that_a_killed_worker_leaves_behind(self):
        """It never comes back: first one slot of four, then the whole pool."""
        locks = {"BROKEN_LOCKS": str(self.tmp / "locks")}
        report, advice = self.advice(LIVENESS, "stale_lock.py", locks)
        self.assertIn("I12", {each["id"] for each in report["invariants"] if each["status"] == "broken"})
        self.assertIn("must not keep its replacement from starting", advice)
        self.assertEqual(0, report["unexplained"], report["unexplained_calls"])
        shutil.rmtree(self.tmp / "locks")
        everybody = self.tmp / "everybody.toml"
        everybody.write_text(f'extends = "{self.quick("worker-kill")}"\nname = "everybody"\nreason = "nobody is left to answer"\n'
                             '[during]\nok = 0.0\n[[fault]]\nid = "k"\nclass = "proc.kill"\ntarget = "all"\nat = "200ms"\n')
        report = self.report(LIVENESS, "run", str(everybody), "--app", str(BROKEN / "stale_lock.py"), "--backend", "python", "--level",
                             "light", env=locks)
        self.assertEqual((0, 0), (report["verification"]["ok"], report["unexplained"]), report["unexplained_calls"])
        self.assertIn("damaged", "\n".join(each["text"] for each in report["reasons"]))
        self.assertRegex("\n".join(report["advice"]), r"0 of 4 workers serve.*every shard is locked")

    def test_an_import_that_takes_longer_than_recovery_may(self):
        report, advice = self.advice((LIVENESS, SAFETY), "slow_import.py", {"BROKEN_IMPORT_S": "6"})
        self.assertRegex(advice, r"Importing the application takes 6\.\d s")
        self.assertIn("I30", {each["id"] for each in report["invariants"] if each["status"] == "broken"})


class Safety(ChaosTest):
    """A laboratory that is SIGKILLed leaves no process, no stopped process, no file, whatever it was about to do."""

    UNDOABLE = {"worker-stop": "cont", "worker-throttle": "cont", "import-storm": "unlink", "half-frame-stall": None,
                "cpu-starvation": "bind"}
    ON_PYTHON = {"fd-exhaustion": "limit", "zygote-stop": "cont", "daemon-kill": "kill", "shm-leak": "remove"}

    def killed(self, scenario, backend, kind, delay):
        """Kills the run `delay` seconds after the fault's undoing was armed (or, without one, after the fault phase began)."""
        out = self.tmp / f"{scenario}-{delay}"
        command = [str(KEELBACK), "chaos", "run", scenario, "--backend", backend, "--level", "light", "--out", str(out)]
        env = {**os.environ, "KEELBACK_TEST_ID": self.test_id, "TMPDIR": str(self.private)}
        lab = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        journal = out / "warden.journal"
        try:
            if kind is None:
                wait_until(journal.exists, "the warden is up", 60)
                time.sleep(3.0)  # not an effect that is waited for, but the moment of a murder
            else:
                wait_until(lambda: journal.exists() and f" {kind} " in journal.read_text(), f"{scenario} arms {kind}", 60)
            time.sleep(delay)
        finally:
            lab.send_signal(signal.SIGKILL)
            lab.wait()
        wait_until(lambda: not marked(self.test_id), f"{scenario}: every process is gone", 10)
        wait_until(lambda: not journal.exists(), f"{scenario}: the warden has undone everything", 10)
        self.assertFalse((out / "control").exists())
        self.assertEqual([], [each.name for each in Path("/dev/shm").glob(f"keelback-chaos-{lab.pid}-*")])
        for left in self.private.iterdir():  # of a daemon that was killed as well: its socket
            shutil.rmtree(left)

    def test_at_several_moments_of_each_fault_on_fake_workers(self):
        for scenario, kind in self.UNDOABLE.items():
            for delay in (0.0, 0.05, 0.3):
                with self.subTest(scenario=scenario, delay=delay):
                    self.killed(scenario, "fake", kind, delay)

    def test_at_several_moments_of_each_fault_on_python(self):
        for scenario, kind in self.ON_PYTHON.items():
            for delay in (0.0, 0.2):
                with self.subTest(scenario=scenario, delay=delay):
                    self.killed(scenario, "python", kind, delay)

    def test_what_would_fill_the_machine_s_memory_is_not_injected(self):
        file = self.tmp / "greedy.toml"
        file.write_text('extends = "memory-leak"\nname = "greedy"\n[safety]\nmemory_pct = 1\n[[fault]]\nid = "l"\nclass = "mem.leak"\n'
                        'at = "200ms"\nwith = { calls = 20, size = "64GiB" }\n')
        report = self.report(INVALID, "run", str(file), "--backend", "python", "--level", "light")
        self.assertIn("safety.memory_pct", report["why"])
        self.assertEqual([], [each for each in report["phases"]["during"]["outcomes"] if each != "ok"], "nothing was done to the pool")

    def test_a_run_stops_before_its_machine_has_nothing_left(self):
        file = self.tmp / "guarded.toml"
        file.write_text('extends = "worker-stop"\nname = "guarded"\n[stop]\nmemory_below = "1TiB"\n')
        report = self.report(ABORTED, "run", str(file), "--backend", "fake", "--level", "light")
        self.assertIn("stop.memory_below is 1TiB", report["why"])
        self.assertEqual([], report["faults"])

    def test_cleanup_finishes_what_a_killed_warden_could_not(self):
        victim = subprocess.Popen(["sleep", "600"], env={**os.environ, "KEELBACK_TEST_ID": self.test_id})
        self.addCleanup(victim.wait)
        self.addCleanup(victim.kill)
        run = self.tmp / "run"
        run.mkdir()
        (run / "warden.journal").write_text(f"arm 1 60000 cont {victim.pid} {proc_stat(victim.pid)[19]} 0 0 0 \n")
        victim.send_signal(signal.SIGSTOP)
        wait_until(lambda: proc_stat(victim.pid)[0] == "T", "the victim is stopped")
        self.assertIn("SIGCONT", self.chaos(0, "cleanup", str(run)))
        wait_until(lambda: proc_stat(victim.pid)[0] != "T", "the victim goes on")
        self.assertFalse((run / "warden.journal").exists())
        self.assertTrue(alive(victim.pid))
        victim.kill()
        victim.wait()


class Pictures(ChaosTest):
    """The report, as a browser shows it: on a screen and on paper."""

    def setUp(self):
        super().setUp()
        self.chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if not self.chromium:
            self.skipTest("SKIPPED: there is no Chromium on this machine (apt-get install chromium)")

    def browser(self, *args):
        subprocess.run([self.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                        "--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={self.tmp / 'profile'}",
                        *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120 * STRETCH, check=True)

    def test_the_report_is_a_picture_and_a_document(self):
        out = self.tmp / "out"
        self.chaos(HEALTHY, "run", self.quick("worker-stop"), "--backend", "fake", "--level", "light", "--out", str(out))
        page = f"file://{out / 'report.html'}"
        self.browser("--window-size=1120,3600", f"--screenshot={out / 'screen.png'}", page)
        self.browser(f"--print-to-pdf={out / 'paper.pdf'}", "--no-pdf-header-footer", page)
        self.browser("--window-size=400,3600", f"--screenshot={out / 'phone.png'}", page)
        width, height, colours = png_facts(out / "screen.png")
        self.assertEqual((1120, 3600), (width, height))
        self.assertGreater(colours, 50, "an empty page has few colours")
        paper = (out / "paper.pdf").read_bytes()
        self.assertTrue(paper.startswith(b"%PDF"))
        pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", paper))
        self.assertTrue(1 < pages < 15, pages)
        keep = os.environ.get("KEELBACK_PICTURES")
        if keep:
            shutil.copytree(out, keep, dirs_exist_ok=True)


def png_facts(path):
    """Width, height and how many different pixels a PNG's rows hold (up to 4096 are counted)."""
    import zlib
    data = path.read_bytes()
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    channels = {2: 3, 6: 4}[colour]
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    raw, stride = zlib.decompress(packed), width * channels
    seen, before = set(), bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1:start + 1 + stride])
        unfilter(raw[start], line, before, channels)
        if row % 8 == 0:
            seen.update(bytes(line[x:x + 3]) for x in range(0, stride, channels * 3))
        before = line
        if len(seen) > 4096:
            break
    return width, height, len(seen)


def unfilter(kind, line, before, channels):
    for x in range(len(line)):
        left = line[x - channels] if x >= channels else 0
        up, corner = before[x], before[x - channels] if x >= channels else 0
        if kind == 1:
            line[x] = (line[x] + left) & 255
        elif kind == 2:
            line[x] = (line[x] + up) & 255
        elif kind == 3:
            line[x] = (line[x] + (left + up) // 2) & 255
        elif kind == 4:
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda each: abs(guess - each))
            line[x] = (line[x] + nearest) & 255


if __name__ == "__main__":
    main()
