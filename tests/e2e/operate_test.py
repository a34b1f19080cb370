"""What docs/operate.md promises to who runs a daemon: numbers that exist, a backup that can be restored, a restart that loses no call."""
import contextlib
import fcntl
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, STRETCH, Client, KeelbackTest, main, wait_until  # noqa: E402
from postgres_server import Missing, PostgresServer  # noqa: E402

PAGE = ROOT / "docs" / "operate.md"
MONITORING = ROOT / "packaging" / "monitoring"
COUNTER = ROOT / "examples" / "counter.py"
DOUBLE = """

@keelback.function(batch=8)
def double(numbers):
    return [2 * number for number in numbers]
"""
# What a rule or a panel selects: keelback_calls_total{outcome=~"error|timeout"}.
SELECTED = re.compile(r"\b(keelback_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')


def script(name):
    """A script of the page, by the name in its first line."""
    return re.search(rf"^```sh\n(# {re.escape(name)}\n.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


class Monitoring(KeelbackTest):
    UNKNOWN = "keelback_cluster_"  # what a daemon that is alone does not have

    def settings(self):
        return {}

    def samples(self):
        """{name: [labels]} of a daemon whose functions have been called once."""
        daemon = self.serve(self.app(COUNTER.read_text() + DOUBLE), wait="ready", settings=self.settings())
        wait_until(lambda: daemon.client().get("/v1/cluster").json.get("serves_sessions", True), "it serves sessions", 60)
        self.assertEqual(1, daemon.client().call("count", session="ann").json)
        self.assertEqual(4, daemon.client().call("double", [2]).json)
        found = {}
        for line in daemon.client().get("/metrics").body.decode().splitlines():
            if sample := re.match(r"(keelback_\w+)(?:\{(.*?)\})? ", line):
                found.setdefault(sample[1], []).append(dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or "")))
        return found

    def test_alerts_and_dashboard_ask_for_numbers_that_a_daemon_has(self):
        there = self.samples()
        self.assertGreater(len(there), 30)
        rules = "\n".join(line for line in (MONITORING / "prometheus-rules.yml").read_text().splitlines() if not line.lstrip().startswith("#"))
        dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
        for text in [rules, PAGE.read_text(), *expressions(dashboard)]:
            for name, selector in SELECTED.findall(text):
                if self.UNKNOWN and name.startswith(self.UNKNOWN):
                    continue
                self.assertIn(name if name in there else f"{name}_count", there, text)
                labels = there[name if name in there else f"{name}_count"]
                for label, how, value in MATCHER.findall(selector):
                    if label == "instance":  # Prometheus adds it
                        continue
                    for word in value.split("|") if how == "=~" else [value]:
                        self.assertTrue(any(found.get(label) == word for found in labels), f'{name} has no {label}="{word}"; it has {labels}')

    def test_the_dashboard_shows_every_number(self):
        shown = " ".join(expressions(json.loads((MONITORING / "grafana-dashboard.json").read_text())))
        missing = {re.sub(r"_(bucket|sum|count)$", "", name) for name in self.samples()}
        self.assertEqual([], sorted(name for name in missing if name not in shown))

    def test_the_dashboard_can_be_imported(self):
        dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
        panels = dashboard["panels"]
        self.assertEqual(len(panels), len({panel["id"] for panel in panels}))
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertTrue(place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']} lies on another panel")
            taken |= cells
            for target in panel.get("targets", ()):
                self.assertTrue(target["datasource"]["uid"] == "${datasource}" and target["expr"].count("(") == target["expr"].count(")"))

    def test_every_alert_has_its_test_and_its_paragraph(self):
        rules = (MONITORING / "prometheus-rules.yml").read_text()
        alerts = re.findall(r"- alert: (\w+)", rules)
        self.assertGreater(len(alerts), 10)
        tests, page = (MONITORING / "prometheus-rules-test.yml").read_text(), PAGE.read_text()
        for alert in alerts:
            self.assertIn(f'alertname="{alert}"', tests)
            self.assertIn(f"\n### {alert}\n", page)
            self.assertIn(f"runbook: docs/operate.md#{alert.lower()}\n", rules)
        self.assertEqual(sorted(alerts), sorted(re.findall(r"^### (Keelback\w+)$", page, re.MULTILINE)), "no paragraph without its alert")


class NodeMonitoring(Monitoring):
    """A node of a cluster has all numbers."""
    UNKNOWN = None

    def settings(self):
        try:
            database = PostgresServer(pooled=False)
        except Missing as missing:
            raise unittest.SkipTest(str(missing)) from None
        self.addCleanup(database.close)
        return {"cluster.store": database.url(), "cluster.advertise": "http://127.0.0.1:1", "cluster.token": "token-of-tests"}


class Backup(KeelbackTest):
    def start(self, store):
        return self.serve(COUNTER, workers=2, wait="ready", settings={"sessions.snapshot": "each_call", "sessions.store": f"sqlite:{store}"})

    def run_script(self, name, *arguments):
        path = self.tmp / name
        path.write_text(script(name))
        done = subprocess.run(["sh", str(path), *map(str, arguments)], capture_output=True, text=True, timeout=120 * STRETCH)
        self.assertEqual((0, ""), (done.returncode, done.stderr))

    def test_a_store_that_is_written_to_is_copied_and_every_session_comes_back(self):
        store = self.tmp / "sessions.db"
        daemon = self.start(store)
        names = [f"s{number}" for number in range(40)]
        answered, over = dict.fromkeys(names, 0), threading.Event()

        def calls(mine):
            client = daemon.client()
            while not over.is_set():
                for name in mine:
                    answered[name] = client.call("count", session=name).json

        threads = [threading.Thread(target=calls, args=(names[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        bounds = []
        try:
            for round_ in range(3):
                passed = sum(answered.values())
                wait_until(lambda passed=passed: sum(answered.values()) > passed + 500 and min(answered.values()), "the sessions are called", 60)
                before = dict(answered)
                self.run_script("backup.sh", store, self.tmp / f"backup{round_}")
                # An answer that is on its way to its caller is in the store and not yet in our books.
                bounds.append({name: (before[name], answered[name] + 1) for name in names})
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(0, daemon.stop())

        for round_, bound in enumerate(bounds):
            self.run_script("restore.sh", self.tmp / f"backup{round_}", store)
            daemon = self.start(store)
            client = daemon.client()
            self.assertEqual((len(names), 0), (daemon.pool()["sessions"]["active"], daemon.pool()["snapshots"]["set_aside"]), daemon.log_text())
            for name, (least, most) in bound.items():
                reply = client.call("peek", session=name)
                self.assertEqual(200, reply.status, f"{reply} {daemon.log_text()}")
                self.assertTrue(least <= reply.json <= most, f"{name} has {reply.json}, and it was between {least} and {most}")
            self.assertEqual(0, daemon.stop())


WORK = """
import os
import keelback

@keelback.function
def work(token):
    # One write, appended: lines of two workers do not mix.
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{token}\\n".encode())
    os.close(ledger)

@keelback.function
def count():
    state = keelback.session().state
    state["count"] = state.get("count", 0) + 1
    return state["count"]
"""


class Upgrade(KeelbackTest):
    """A service manager holds the sockets and restarts the daemon, under load."""

    def setUp(self):
        super().setUp()
        self.listeners = [socket.create_server(("127.0.0.1", 0), backlog=128), socket.socket(socket.AF_UNIX)]
        self.listeners[1].bind(str(self.tmp / "k.sock"))
        self.listeners[1].listen(128)
        for listener in self.listeners:
            self.addCleanup(listener.close)
        self.addresses = [f"127.0.0.1:{self.listeners[0].getsockname()[1]}", f"unix:{self.tmp}/k.sock"]
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.tmp / "notify"))
        self.notify.settimeout(60 * STRETCH)
        self.addCleanup(self.notify.close)
        self.ledger, self.processes = self.tmp / "ledger", []
        self.addCleanup(lambda: [process.kill() for process in self.processes if process.poll() is None])

    def start(self):
        # From 3 on, as a service manager passes them. LISTEN_PID must be the process that serves: the shell becomes it.
        fds = [fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 10) for listener in self.listeners]
        command = "exec %s; export LISTEN_PID=$$; exec \"$@\"" % " ".join(f"{number}<&{fd}" for number, fd in enumerate(fds, 3))
        environment = {**os.environ, "LISTEN_FDS": str(len(fds)), "NOTIFY_SOCKET": str(self.tmp / "notify"), "KEELBACK_TEST_ID": self.test_id,
                       "LEDGER": str(self.ledger), "TMPDIR": str(self.private)}
        process = subprocess.Popen(["bash", "-c", command, "sh", str(KEELBACK), "serve", str(self.app(WORK)), "--set", "pool.backend=python", "--set",
                                    f"sessions.store=sqlite:{self.tmp}/sessions.db"], pass_fds=fds, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in fds:
            os.close(fd)
        self.processes.append(process)
        self.assertEqual(b"READY=1", self.notify.recv(100))
        return process

    def stop(self, process):
        process.terminate()
        self.assertEqual(b"STOPPING=1", self.notify.recv(100))
        self.assertEqual(0, process.wait(60 * STRETCH))

    # Goal: the table of docs/operate.md. The sockets are always open, so nothing is refused. A caller that connects for each call comes again after a
    # 503 and after nothing else; one that keeps its connection also when the daemon has closed it in that moment.
    def test_restarts_under_load_lose_no_call_and_no_session_of_callers_that_follow_the_table(self):
        process, over, tokens, counts, failures = self.start(), threading.Event(), [], {}, []

        def answered(client, keeps, function, arguments, session):
            closed = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) if keeps else ()
            while True:
                # Closed without any reply: nothing has run, as the ledger will show.
                with contextlib.suppress(*closed):
                    reply = client.call(function, arguments, session=session)
                    if not keeps:
                        client.close()
                    if reply.status != 503 or reply.headers["Keelback-Effect"] != "none":
                        return reply
                time.sleep(0.01)  # what a caller does between two attempts; nothing is waited for

        def caller(number):
            client, keeps, session, made = Client(self.addresses[number % 2]), number < 4, f"s{number}", 0
            while not over.is_set():
                made += 1
                token = f"{number}-{made}"
                tokens.append(token)
                try:
                    for function, arguments, in_session in (("work", [token], None), ("count", [], session)):
                        reply = answered(client, keeps, function, arguments, in_session)
                        if reply.status != 200:
                            failures.append(reply)
                except OSError as error:
                    failures.append(f"caller {number}: {error!r}")
                    return
                counts[session] = made, reply.json

        callers = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
        for thread in callers:
            thread.start()
        try:
            for _ in range(3):
                passed = len(tokens)
                wait_until(lambda passed=passed: len(tokens) > passed + 100, "calls go on", 60)
                self.stop(process)
                process = self.start()
            passed = len(tokens)
            wait_until(lambda: len(tokens) > passed + 100, "calls go on", 60)
        finally:
            over.set()
            for thread in callers:
                thread.join()
        self.assertEqual([], failures)
        ran = self.ledger.read_text().split()
        self.assertEqual(sorted(tokens), sorted(ran), "each call ran exactly once")
        for session, (made, counted) in counts.items():
            self.assertEqual(made, counted, f"{session} goes on with its state")
        self.stop(process)


if __name__ == "__main__":
    main()
