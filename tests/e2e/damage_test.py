"""A daemon whose session store is damaged: it starts, no session comes back older, what the damage did not reach goes on, and each loss is told
once."""
import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import BACKEND, ROOT, KeelbackTest, main, wait_until  # noqa: E402

CONFORMANCE = ROOT / "tests" / "apps" / "conformance.py"
BACKENDS = [backend for backend in (("fake", "standard"), ("python", CONFORMANCE)) if BACKEND in (None, backend[0])]
PAGE, FRAME, LOG_HEAD = 4096, 4096 + 24, 32
SESSIONS = 60
A_PAGE = 16  # sessions whose rows a page has, at most


class DamageTest(KeelbackTest):
    def setUp(self):
        super().setUp()
        self.where = self.tmp / "store"
        self.where.mkdir()
        self.store = self.where / "sessions.db"

    def start(self, backend, app):
        return self.serve(app, backend=backend, workers=2, settings={"sessions.snapshot": "each_call", "sessions.store": f"sqlite:{self.store}"})

    def sigkill(self, daemon):
        daemon.process.kill()
        daemon.process.wait()
        self.assert_no_process_left(5.0)

    def killed(self, backend, app, sessions=SESSIONS):
        """A daemon that is killed amid calls. What it had answered, as {session: (value, birth)}, and which calls it had not."""
        daemon = self.start(backend, app)
        acked, pending, lock, enough = {}, set(), threading.Lock(), threading.Event()

        def call(first, count):
            client = daemon.client()
            with contextlib.suppress(Exception):  # the daemon is killed
                for number in range(5 * count):  # a log that is longer begins anew
                    name = f"s{first + number % count}"
                    with lock:
                        pending.add(name)
                    reply = client.call("counter", session=name)
                    with lock:
                        pending.discard(name)
                        acked[name] = (reply.json, reply.headers["Keelback-Birth"])
                        if reply.json >= 4 and len(acked) == sessions:
                            enough.set()

        half = sessions // 2
        threads = [threading.Thread(target=call, args=(0, half)), threading.Thread(target=call, args=(half, sessions - half))]
        for thread in threads:
            thread.start()
        self.assertTrue(enough.wait(60), daemon.log_text())
        self.sigkill(daemon)
        for thread in threads:
            thread.join()
        self.assertEqual(sessions, len(acked))
        return acked, pending

    def files(self):
        return {path.name[len(self.store.name):]: path.read_bytes() for path in self.where.iterdir()}

    def put(self, files):
        shutil.rmtree(self.where)
        self.where.mkdir()
        for suffix, octets in files.items():
            Path(f"{self.store}{suffix}").write_bytes(octets)

    def hold_promise(self, backend, app, acked, pending):
        """Starts the daemon on what is there, calls every session twice, and kills and starts it once more. How many sessions were lost."""
        daemon = self.start(backend, app)
        client = daemon.client()
        told, now = set(), {}
        for name, (value, birth) in sorted(acked.items()):
            reply = client.call("counter", session=name)
            if reply.outcome == "session_lost":
                self.assertEqual((410, "none"), (reply.status, reply.json["effect"]), name)
                told.add(name)
                reply = client.call("counter", session=name)
                self.assertEqual((200, 1), (reply.status, reply.json), f"{name}: told once, then it opens anew")
                self.assertNotEqual(birth, reply.headers["Keelback-Birth"], name)
            else:
                expected = {value + 1, value + 2} if name in pending else {value + 1}
                self.assertEqual(200, reply.status, name)
                self.assertIn(reply.json, expected, f"{name} goes on where it was; log: {daemon.log_text()}")
                self.assertEqual(birth, reply.headers["Keelback-Birth"], name)
            now[name] = reply.json
        self.assertEqual(len(told), daemon.pool()["sessions"]["lost"])
        self.assertTrue(daemon.pool()["snapshots"]["up"])
        self.sigkill(daemon)
        daemon = self.start(backend, app)
        client = daemon.client()
        for name in sorted(acked):
            reply = client.call("counter", session=name)
            self.assertEqual((200, now[name] + 1), (reply.status, reply.json), f"{name} in the next run")
        self.assertEqual(0, daemon.pool()["sessions"]["lost"], "nothing is told again")
        self.sigkill(daemon)
        return len(told)


class Random(DamageTest):
    def test_twenty_damages_take_no_session_back_in_silence(self):
        seed = int(os.environ.get("KEELBACK_SEED", "7"))
        for backend, app in BACKENDS:
            acked, pending = self.killed(backend, app)
            good = self.files()
            for turn in range(20 // len(BACKENDS)):
                chance = random.Random(f"{seed} {backend} {turn}")
                files = dict(good)
                what, most = damage(chance, files, ("", "-wal", "-wal", "-anchor", "-stale")[turn % 5])
                with self.subTest(backend=backend, turn=turn, seed=seed, what=what):
                    self.put(files)
                    self.assertLessEqual(self.hold_promise(backend, app, acked, pending), most)


def damage(chance, files, suffix):
    """Damages one of the files; what it did, and how many sessions that may cost."""
    octets = bytearray(files[suffix])
    at = chance.randrange(len(octets))
    begin, length = (LOG_HEAD + max(at - LOG_HEAD, 0) // FRAME * FRAME, FRAME) if suffix == "-wal" else (at // PAGE * PAGE, PAGE)
    length = min(length, len(octets) - begin)
    how, most = chance.choice([("bit", A_PAGE), ("zeros", A_PAGE), ("noise", A_PAGE), ("cut", SESSIONS), ("gone", SESSIONS)])
    if how == "bit":
        octets[at] ^= 1 << chance.randrange(8)
    elif how == "zeros":
        octets[begin:begin + length] = bytes(length)
    elif how == "noise":
        octets[begin:begin + length] = chance.randbytes(length)
    elif how == "cut":
        del octets[at:]
    files[suffix] = bytes(octets)
    if how == "gone":
        del files[suffix]
    return f"{how} of {suffix or 'the database'} at {at}", most if suffix in ("", "-wal") else 0


class Targeted(DamageTest):
    def test_a_bit_of_the_log_costs_what_its_page_has(self):
        for backend, app in BACKENDS:
            acked, pending = self.killed(backend, app)
            files = self.files()
            octets = bytearray(files["-wal"])
            octets[LOG_HEAD + 3 * FRAME + 3000] ^= 16
            self.put({**files, "-wal": bytes(octets)})
            self.assertLessEqual(self.hold_promise(backend, app, acked, pending), A_PAGE)
            kept = [suffix for suffix in self.files() if ".damaged-" in suffix]
            self.assertTrue(any(suffix.endswith("-wal") for suffix in kept), kept)
            self.assertTrue(any(self.files()[suffix] == bytes(octets) for suffix in kept), "the damaged log is kept as it was")

    def test_a_log_that_is_gone_is_no_crash_that_lost_nothing(self):
        backend, app = BACKENDS[0]
        acked, pending = self.killed(backend, app)
        files = self.files()
        del files["-wal"]
        self.put(files)
        self.assertEqual(SESSIONS, self.hold_promise(backend, app, acked, pending), "all that was answered was in the log")

    def test_a_database_that_cannot_be_opened_any_more_is_read_page_by_page(self):
        backend, app = BACKENDS[0]
        acked, pending = self.killed(backend, app)
        self.assertEqual(0, self.start(backend, app).stop(), "all is in the database now")
        files = self.files()
        self.put({**files, "": b"x" * PAGE + files[""][PAGE:]})
        self.assertEqual(0, self.hold_promise(backend, app, acked, pending), "no row is in the first page")

    def test_an_anchor_that_is_gone_or_a_directory_costs_nothing_and_is_said(self):
        backend, app = BACKENDS[0]
        acked, pending = self.killed(backend, app)
        files = self.files()
        del files["-anchor"]
        for directory in (False, True):
            self.put(files)
            if directory:
                (Path(f"{self.store}-anchor") / "x").mkdir(parents=True)
            daemon = self.start(backend, app)
            wait_until(lambda d=daemon: "anchor" in d.log_text(), "the log says so")
            self.assertEqual(0, daemon.stop())
        self.put(files)
        self.assertEqual(0, self.hold_promise(backend, app, acked, pending))

    def mounted(self):
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(self.where)], capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", str(self.where)], check=True)

    def test_damage_on_a_full_file_system_is_told_once_and_what_is_good_is_served(self):
        self.mounted()
        backend, app = BACKENDS[0]
        acked, _ = self.killed(backend, app, sessions=20)
        log = Path(f"{self.store}-wal")
        frames = (log.stat().st_size - LOG_HEAD) // FRAME
        os.truncate(log, LOG_HEAD + (frames - 12) * FRAME)  # the last commits
        with contextlib.suppress(OSError), open(self.where / "filler", "ab", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        lost = set()
        for turn in range(2):
            daemon = self.start(backend, app)
            client = daemon.client()
            self.assertFalse(daemon.pool()["snapshots"]["up"])
            listed = {item["id"] for item in client.get("/v1/sessions").json["items"]}
            told = {name for name in acked if name not in listed and client.call("counter", session=name).outcome == "session_lost"}
            if turn == 0:
                self.assertEqual(set(acked), told | listed, "found, or told")
                self.assertTrue(told and listed, (told, listed))
                lost = told
            self.assertEqual(lost if turn == 0 else set(), told, "told once")
            self.sigkill(daemon)
        (self.where / "filler").unlink()
        daemon = self.start(backend, app)
        client = daemon.client()
        for name in sorted(set(acked) - lost):
            value, birth = acked[name]
            reply = client.call("counter", session=name)
            self.assertEqual((200, value + 1, birth), (reply.status, reply.json, reply.headers["Keelback-Birth"]), name)
        self.assertTrue(daemon.pool()["snapshots"]["up"])
        self.assertEqual(0, daemon.stop())

    def test_a_read_only_file_system_stops_no_daemon_and_takes_no_session_back(self):
        self.mounted()
        backend, app = BACKENDS[0]
        acked, _ = self.killed(backend, app, sessions=20)
        subprocess.run(["mount", "-o", "remount,ro", str(self.where)], check=True)
        daemon = self.start(backend, app)
        client = daemon.client()
        snapshots = daemon.pool()["snapshots"]
        self.assertEqual((False, 0), (snapshots["up"], snapshots["stored"]), snapshots)
        self.assertIn(str(self.store), client.get("/readyz").json["degraded"][0])
        for name in acked:
            self.assertEqual("session_lost", client.call("counter", session=name).outcome, "it could come back when it is out of date")
            self.assertEqual(1, client.call("counter", session=name).json, "calls go on")
        subprocess.run(["mount", "-o", "remount,rw", str(self.where)], check=True)
        wait_until(lambda: client.call("counter", session="another").status == 200 and daemon.pool()["snapshots"]["up"], "it is used again")
        self.assertEqual([2] * 20, [client.call("counter", session=name).json for name in acked])
        self.sigkill(daemon)
        daemon = self.start(backend, app)
        self.assertEqual([3] * 20, [daemon.client().call("counter", session=name).json for name in acked])
        self.assertEqual(0, daemon.stop())


if __name__ == "__main__":
    main()
