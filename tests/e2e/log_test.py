"""The log on stderr: JSON from the first line to the last, marks for what is missing, nothing that rules a terminal."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, STRETCH, Client, KeelbackTest, main, wait_until  # noqa: E402

SAYS = """
import os, sys, keelback

print("at import, by the zygote or the worker")
os.write(2, b"raw \\x1b[31m red \\r nul \\0 bad \\xff\\n")

@keelback.worker_setup
def setup():
    print("at setup")

@keelback.function
def say(text):
    print(text)

@keelback.function
def flood(lines):
    for n in range(lines):
        print("line", n)

@keelback.function
def long_line(size):
    sys.stdout.write("x" * size + "\\n")

@keelback.function
def die():
    os.write(2, b"last words \\x1b[0m\\n")
    os._exit(3)
"""


class Log(KeelbackTest):
    def lines_of(self, daemon):
        found = []
        for line in list(daemon.log):
            try:
                found.append(json.loads(line))
            except ValueError:
                self.fail(f"not JSON: {line!r}")
            self.assertLessEqual({"time", "level", "message"}, set(found[-1]), line)
        return found

    def test_every_line_is_json_from_the_first_to_the_last(self):
        for zygote in ("auto", "off"):
            app = self.app(SAYS)
            daemon = self.serve(app, workers=2, settings={"log.format": "json", "log.level": "trace", "workers.zygote": zygote})
            client = daemon.client()
            client.call("say", ["a line\nand \x1b[31m another"])
            self.assertEqual("worker_died", client.call("die").outcome)
            client.call("flood", [3000])
            self.assertEqual(200, client.request("POST", "/v1/reload", headers={"Content-Type": "application/json"}).status)
            app.write_text("import not_there\n")
            self.assertEqual(500, client.request("POST", "/v1/reload", headers={"Content-Type": "application/json"}).status)
            guard = next(pid for pid in self.children(daemon.pid) if "keelback-guard" in Path(f"/proc/{pid}/cmdline").read_text())
            app.write_text(SAYS)
            os.kill(guard, signal.SIGKILL)
            wait_until(lambda d=daemon: "the guard died" in "\n".join(d.log), "the guard's end is in the log", 30)
            wait_until(lambda d=daemon: d.client().get("/readyz").status == 200, "it serves again", 60)
            self.assertEqual(0, daemon.stop())
            said = self.lines_of(daemon)
            messages = "\n".join(line["message"] for line in said)
            for words in ("listening on ", "at import", "at setup", "last words", "raw \x1b[31m red"):
                self.assertIn(words, messages)
            workers = {line.get("worker") for line in said}
            self.assertTrue({"1.1", "2.1"} & workers, workers)
            if zygote == "auto":
                self.assertIn("zygote", workers)

    @staticmethod
    def children(pid):
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]

    def test_what_ends_a_start_is_json_too(self):
        cases = ((["missing.py", "--set", "log.format=json"], 4), (["missing.py", "--set", "log.format=json", "--bogus"], 2),
                 (["missing.py", "--set", "log.format=json", "--set", "pool.workers=none"], 2),
                 (["missing.py", "--set", "log.format=json", "--listen", "no-address"], 2),
                 (["missing.py", "--set", "log.format=json", "--listen", "192.0.2.77:1", "--set", "server.token=t"], 4))
        for words, status in cases:
            with self.subTest(words=words):
                # 'listen' last wins: an address of our own unless the case has one.
                listen = [] if "--listen" in words else ["--listen", "127.0.0.1:0"]
                environment = {**os.environ, "KEELBACK_TEST_ID": self.test_id, "TMPDIR": str(self.private)}
                ended = subprocess.run([str(KEELBACK), "serve", *words, *listen], cwd=ROOT, env=environment, capture_output=True, text=True,
                                       timeout=60 * STRETCH, check=False)
                self.assertEqual(status, ended.returncode, ended.stderr)
                lines = ended.stderr.splitlines()
                self.assertTrue(lines)
                for line in lines:
                    self.assertIn("message", json.loads(line), line)
                self.assertEqual("error", json.loads(lines[-1])["level"], lines)

    def test_the_text_log_escapes_what_is_not_text(self):
        daemon = self.serve(self.app(SAYS), workers=1)
        client = daemon.client()
        client.call("say", ["esc \x1b[31m csi \x9b rtl \u202e umlaut \u00e4"])
        client.request("GET", "/v1/pool", headers={"Host": "evil.example\x1b[31m"})
        wait_until(lambda: "umlaut" in daemon.log_text(), "the line is in the log")
        wait_until(lambda: "raw " in daemon.log_text(), "so is what came raw")
        self.assertEqual(0, daemon.stop())
        text = "\n".join(daemon.log)
        self.assertIn("esc \\x1b[31m csi \\u009b rtl \\u202e umlaut \u00e4", text)
        self.assertIn("raw \\x1b[31m red \\x0d nul \\x00 bad \\xff", text)
        for character in "\x1b\r\0\x9b\u202e":
            self.assertNotIn(character, text)

    def test_a_flood_and_a_long_line_leave_a_mark_and_a_count(self):
        daemon = self.serve(self.app(SAYS), workers=1)
        client = daemon.client()
        self.assertEqual("ok", client.call("long_line", [20_000]).outcome)
        wait_until(lambda: daemon.log_text().count("[the line goes on]") >= 4, lambda: f"the pieces of a long line are marked: {daemon.log_text()[-300:]}")
        self.assertEqual("ok", client.call("flood", [20_000]).outcome)
        mark = "Worker 1.1 wrote more than 100 lines a second: "
        wait_until(lambda: mark in "\n".join(daemon.log), "the mark is in the log")

        def marked():
            return sum(int(line.split(mark)[1].split()[0]) for line in list(daemon.log) if mark in line)

        counted = wait_until(lambda: daemon.metrics().get('keelback_log_dropped_lines_total{from="workers"}'), "it is counted")
        wait_until(lambda: marked() == daemon.metrics()['keelback_log_dropped_lines_total{from="workers"}'] >= counted, "the marks add up to the count")
        printed = sum("[1.1] line " in line for line in daemon.log)
        wait_until(lambda: marked() + sum("[1.1] line " in line for line in daemon.log) == 20_000, lambda: f"no line is missing: {marked()}, {printed}")
        self.assertEqual("ok", client.call("say", ["afterwards"]).outcome)
        wait_until(lambda: client.call("say", ["afterwards"]).outcome == "ok" and "afterwards" in daemon.log_text(), "later lines are logged as usual")

    def test_an_import_that_floods_is_marked(self):
        app = self.app(SAYS.replace('print("at import', 'print("\\n" * 5000 + "at import'))
        daemon = self.serve(app, workers=1)
        wait_until(lambda: "The zygote wrote more than 100 lines a second: " in "\n".join(daemon.log), lambda: f"the mark: {daemon.log_text()[-500:]}")
        wait_until(lambda: daemon.metrics()['keelback_log_dropped_lines_total{from="zygotes"}'] > 4000, "the count")

    def test_a_log_that_nobody_reads_says_how_much_is_missing(self):
        read, write = os.pipe()
        command = [str(KEELBACK), "serve", str(self.app(SAYS)), "--listen", f"unix:{self.tmp}/s", "--workers", "1", "--set", "log.level=info"]
        environment = {**os.environ, "KEELBACK_TEST_ID": self.test_id, "TMPDIR": str(self.private)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=write, stdout=subprocess.DEVNULL)
        os.close(write)
        try:
            client = Client(f"unix:{self.tmp}/s")

            def ready():
                try:
                    return client.get("/readyz").status == 200
                except OSError:
                    return False

            wait_until(ready, "it serves", 60)
            # Orders are lines of the log; nobody reads them.
            def lost():
                for _ in range(500):
                    client.request("DELETE", "/v1/quarantine/" + "x" * 150)
                text = client.get("/metrics").body.decode()
                return float(next(line for line in text.splitlines() if line.startswith('keelback_log_dropped_lines_total{from="daemon"}')).split()[-1])

            wait_until(lost, "lines are lost, and counted", 120)
            process.send_signal(signal.SIGTERM)
            with os.fdopen(read, "rb") as log:
                text = log.read().decode()
            self.assertIn("Nobody read the log in time: ", text)
            self.assertEqual(0, process.wait(30 * STRETCH))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
