"""The DSPy application in a real pool: one configuration for all workers, programs that go with their sessions, a model that misbehaves."""
import concurrent.futures
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from fake_lm import FakeLm  # noqa: E402
from keelback_testing import KEELBACK, STRETCH, KeelbackTest, concurrently, main, wait_until  # noqa: E402

KEY = "sk-do-not-tell-4711"
SCRIPT = {"rules": [{"match": "France", "answer": "Paris"}, {"match": "hang", "fail": "hang"}]}
# The application that docs/dspy.md shows.
STREAMING, = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "dspy.md").read_text(), re.DOTALL)


class DspyTest(KeelbackTest):
    def serve_dspy(self, workers=2, **options):
        daemon = self.serve("keelback.apps.dspy", workers=workers, python=sys.executable, **options)
        return daemon.prewarm(workers)

    def ok(self, reply):
        self.assertEqual("ok", reply.outcome, reply)
        return reply.json

    def ask(self, client, session, question="France?", **options):
        return client.call("execute_program", {"id": "qa", "inputs": {"question": question}}, session=session, **options)

    def create(self, client, session, **options):
        return self.ok(client.call("create_program", {"signature": "question -> answer", "id": "qa", **options}, session=session))

    def everywhere(self, daemon, workers):
        """Asks through enough new sessions at once that every worker answers; {worker: answer}."""
        self.rounds = getattr(self, "rounds", 0) + 1

        def one(number):
            def ask():
                reply = daemon.client().call("run_once", {"signature": "question -> answer", "inputs": {"question": "France?"}},
                                             session=f"e{self.rounds}-{number}")
                return reply.headers["Keelback-Worker"], self.ok(reply)["outputs"]["answer"]
            return ask
        answers = dict(concurrently([one(number) for number in range(4 * workers)]))
        self.assertEqual(workers, len(answers), answers)
        return answers


class Callers(concurrent.futures.ThreadPoolExecutor):
    """Threads that call."""

    def __init__(self, count=8):
        super().__init__(count)

    def begin(self, call):
        return self.submit(call)


class Pool(DspyTest):
    def test_it_is_served_by_the_zygote_and_not_by_falling_back(self):
        daemon = self.serve_dspy()
        start = daemon.pool()["start"]
        self.assertEqual("zygote", start["mode"], start)
        self.assertGreater(start["import_s"], 0)

    def test_a_configuration_reaches_every_worker_and_those_that_come_later(self):
        daemon = self.serve_dspy(workers=3)
        configured = self.ok(daemon.client().call("configure_lm", {"kind": "scripted", "script": SCRIPT}))
        self.assertIn(configured["reach"], ("pool", "zygote"))
        self.assertEqual({"Paris"}, set(self.everywhere(daemon, 3).values()))
        for worker in daemon.workers():
            os.kill(worker["pid"], signal.SIGKILL)
            daemon.wait_replaced(worker)
        self.assertEqual({"Paris"}, set(self.everywhere(daemon, 3).values()))
        self.ok(daemon.client().call("configure_lm", {"kind": "scripted", "script": {"rules": [{"match": ".", "answer": "Lyon"}]}}))
        self.assertEqual({"Lyon"}, set(self.everywhere(daemon, 3).values()))

    def test_programs_rebuild_from_the_session_s_snapshot_on_any_worker_and_in_the_next_daemon(self):
        settings = {"sessions.snapshot": "each_call", "sessions.store": f"sqlite:{self.tmp / 'sessions.db'}"}
        daemon = self.serve_dspy(workers=2, settings=settings)
        client = daemon.client()
        self.ok(client.call("configure_lm", {"kind": "scripted", "script": SCRIPT}))
        self.create(client, "ann", kind="chain_of_thought", instructions="Answer.", demos=[{"question": "Spain?", "answer": "Madrid"}])
        before = self.ok(client.call("program_info", {"id": "qa"}, session="ann"))
        reply = self.ask(client, "ann")
        self.assertEqual("Paris", self.ok(reply)["outputs"]["answer"])
        home = reply.headers["Keelback-Worker"]
        os.kill(next(w["pid"] for w in daemon.workers() if f"{w['slot']}.{w['generation']}" == home), signal.SIGKILL)
        reply = self.ask(client, "ann")
        self.assertEqual(("Paris", "2"), (self.ok(reply)["outputs"]["answer"], reply.headers["Keelback-Epoch"]))
        self.assertNotEqual(home, reply.headers["Keelback-Worker"])
        daemon.process.kill()
        daemon.process.wait()
        self.assert_no_process_left(5.0)

        client = self.serve_dspy(workers=1, settings=settings).client()
        self.assertEqual("LmNotConfigured", self.ask(client, "ann").json["python"]["type"].rsplit(".", 1)[-1], "the model is the pool's, not the session's")
        self.ok(client.call("configure_lm", {"kind": "scripted", "script": SCRIPT}))
        reply = self.ask(client, "ann")
        self.assertEqual(("Paris", "3"), (self.ok(reply)["outputs"]["answer"], reply.headers["Keelback-Epoch"]))
        after = self.ok(client.call("program_info", {"id": "qa"}, session="ann"))
        self.assertEqual(before["definition"], after["definition"])
        self.assertEqual(3, after["executions"], "counts go with the session")

    def test_a_new_zygote_gives_its_workers_the_configuration(self):
        daemon = self.serve_dspy(workers=1)
        self.assertEqual("pool", self.ok(daemon.client().call("configure_lm", {"kind": "scripted", "script": SCRIPT}))["reach"])
        zygote = daemon.pool()["start"]["zygote_pid"]
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: daemon.pool()["start"]["zygote_pid"] not in (zygote, 0), "a new zygote", 20)
        daemon.wait_replaced(daemon.kill_worker())
        reply = daemon.client().call("run_once", {"signature": "question -> answer", "inputs": {"question": "France?"}})
        self.assertEqual("Paris", self.ok(reply)["outputs"]["answer"])

    def test_the_environments_configuration_is_there_with_and_without_a_zygote(self):
        given = '{"kind": "scripted", "script": {"rules": [{"match": ".", "answer": "from outside"}]}}'
        for zygote in ("auto", "off"):
            with self.subTest(zygote=zygote):
                daemon = self.serve_dspy(env={"KEELBACK_DSPY_LM": given}, settings={"workers.zygote": zygote})
                self.assertEqual({"from outside"}, set(self.everywhere(daemon, 2).values()))
                self.assertEqual(0, daemon.stop())

    def test_sessions_have_programs_of_their_own_and_lose_nothing_to_their_neighbours(self):
        daemon = self.serve_dspy()
        self.ok(daemon.client().call("configure_lm", {"kind": "scripted", "script": SCRIPT}))

        def visit(name):
            def run():
                client = daemon.client()
                self.create(client, name, kind="chain_of_thought")
                answers = [self.ok(self.ask(client, name, f"{name} {n}?"))["outputs"]["answer"] for n in range(20)]
                self.assertEqual([f"answer to: {name} {n}?" for n in range(20)], answers)
                return self.ok(client.call("stats", session=name))["session"]
            return run

        for held in concurrently([visit(f"s{number}") for number in range(8)]):
            self.assertEqual({"programs": 1, "executions": 20, "failures": 0}, held)


class Concurrent(DspyTest):
    """Counts of requests that the model has not answered say what runs at once; no clock does."""

    def serve_model(self, lm, workers, app="keelback.apps.dspy"):
        daemon = self.serve(app, workers=workers, python=sys.executable).prewarm(workers)
        self.ok(daemon.client().call("configure_lm", {"model": "openai/fake", "api_base": lm.url, "api_key": KEY, "num_retries": 0}))
        return daemon

    def test_sixty_four_sessions_wait_for_the_model_at_once_in_a_pool_of_four(self):
        names = [f"s{number}" for number in range(64)]
        with FakeLm(api_key=KEY) as lm, Callers(64) as callers:
            daemon = self.serve_model(lm, workers=4)
            list(callers.map(lambda name: self.create(daemon.client(), name, kind="chain_of_thought"), names))
            lm.fault("hold")
            replies = [callers.begin(lambda name=name: self.ask(daemon.client(), name, f"Who is {name}?")) for name in names]
            wait_until(lambda: lm.report()["open"] == 64, lambda: f"all 64 wait for the model: {lm.report()}", 60)
            self.assertEqual(64, sum(worker["running"] for worker in daemon.workers()))
            lm.fault("none")
            self.assertEqual([f"answer to: Who is {name}?" for name in names], [self.ok(reply.result())["outputs"]["answer"] for reply in replies])
            self.assertEqual((64, 64), (lm.report()["requests"], lm.report()["open_max"]))
            self.assertEqual(0, daemon.stop())

    def test_a_function_that_asks_no_model_waits_for_none(self):
        with FakeLm(api_key=KEY) as lm, Callers() as callers:
            daemon = self.serve_model(lm, workers=1)
            for name in ("ann", "bob"):
                self.create(daemon.client(), name)
            lm.fault("hold")
            held = callers.begin(lambda: self.ask(daemon.client(), "ann"))
            wait_until(lambda: lm.report()["open"] == 1, "ann's question is asked")
            client = daemon.client()
            self.assertEqual(["qa"], [program["program"] for program in self.ok(client.call("list_programs", session="bob"))])
            self.create(client, "bob", replace=True, kind="react")
            self.ok(client.call("configure_lm", {"kind": "scripted", "script": SCRIPT}))
            self.assertEqual("Paris", self.ok(self.ask(client, "bob"))["outputs"]["answer"])
            self.assertEqual(1, lm.report()["open"])
            lm.fault("none")
            self.assertEqual("answer to: France?", self.ok(held.result())["outputs"]["answer"], "from the model that it had asked")

    def test_a_stream_of_an_application_built_on_this_one_flows_while_its_worker_waits_for_the_model(self):
        app = self.app(STREAMING)
        with FakeLm(SCRIPT, api_key=KEY) as lm, Callers() as callers:
            daemon = self.serve_model(lm, workers=1, app=app)
            for name in ("ann", "bob"):
                self.create(daemon.client(), name)
            lm.fault("hold", match="hold on")
            held = [callers.begin(lambda name=name: self.ask(daemon.client(), name, "hold on?")) for name in ("ann", "bob")]
            wait_until(lambda: lm.report()["open"] == 2, "both questions are asked")
            stream = daemon.client().request("POST", "/v1/call/answers", json.dumps({"questions": ["France?", "hm", "France!"]}),
                                             {"Content-Type": "application/json", "Accept": "text/event-stream"})
            self.assertEqual(['"Paris"', '"answer to: hm"', '"Paris"'], re.findall(r"event: item\ndata: (.*)", stream.body.decode()))
            self.assertEqual(2, lm.report()["open"])
            lm.fault("none")
            self.assertEqual(["answer to: hold on?"] * 2, [self.ok(reply.result())["outputs"]["answer"] for reply in held])


class Models(DspyTest):
    def configured(self, lm, **options):
        daemon = self.serve_dspy(**options)
        client = daemon.client()
        self.ok(client.call("configure_lm", {"model": "openai/fake", "api_base": lm.url, "api_key": KEY, "num_retries": 0}))
        self.create(client, "ann")
        return daemon, client

    def test_a_fault_of_the_model_is_an_error_of_that_call_and_of_nothing_else(self):
        with FakeLm(SCRIPT, api_key=KEY) as lm:
            daemon, client = self.configured(lm)
            before = {worker["pid"] for worker in daemon.workers()}
            for fault, word in (("429", "LMRateLimitError"), ("500", "LMServerError"), ("reset", "LMTransportError")):
                lm.fault(fault)
                reply = self.ask(client, "ann")
                self.assertEqual(("error", "done"), (reply.outcome, reply.json["effect"]), reply)
                self.assertTrue(reply.json["python"]["message"].startswith(word), reply)
                self.assertEqual(1, lm.report()["bitten"])
            lm.fault("none")
            self.assertEqual("Paris", self.ok(self.ask(client, "ann"))["outputs"]["answer"])
            self.assertEqual(before, {worker["pid"] for worker in daemon.workers()})
            self.assertEqual(0, daemon.pool()["restarts"])

    def test_a_hanging_model_costs_its_call_and_nothing_else(self):
        with FakeLm(SCRIPT, api_key=KEY) as lm, Callers() as callers:
            daemon, client = self.configured(lm, workers=1)
            self.create(client, "bob")
            before = self.ask(client, "ann").headers["Keelback-Worker"]
            lm.fault("hold")
            beside = callers.begin(lambda: self.ask(daemon.client(), "bob"))
            wait_until(lambda: lm.report()["open"] == 1, "bob's question is asked")
            late = self.ask(client, "ann", deadline_ms=int(500 * STRETCH))
            self.assertEqual(("timeout", "maybe"), (late.outcome, late.json["effect"]), late)
            self.assertEqual(2, lm.report()["bitten"])
            wait_until(lambda: lm.report()["open"] == 1, "the late call has let go of the server, and bob's has not")
            lm.fault("none")
            after = self.ask(client, "ann")
            for reply in (beside.result(), after):
                self.assertEqual("Paris", self.ok(reply)["outputs"]["answer"])
                self.assertEqual(("1", before), (reply.headers["Keelback-Epoch"], reply.headers["Keelback-Worker"]))
            self.assertEqual((0, 0), (daemon.pool()["restarts"], daemon.pool()["sessions"]["lost"]))

    def test_a_client_that_leaves_lets_go_of_the_model_and_its_neighbours_go_on(self):
        with FakeLm(SCRIPT, api_key=KEY) as lm, Callers() as callers:
            daemon, client = self.configured(lm, workers=1)
            lm.fault("hold")
            beside = callers.begin(lambda: self.ask(client, "ann"))
            wait_until(lambda: lm.report()["open"] == 1, "ann's question is asked")
            host, port = daemon.address.rsplit(":", 1)
            leaver = http.client.HTTPConnection(host, int(port))
            leaver.request("POST", "/v1/call/run_once", json.dumps({"signature": "question -> answer", "inputs": {"question": "?"}}),
                           {"Content-Type": "application/json"})
            wait_until(lambda: lm.report()["open"] == 2, "the other question is asked")
            leaver.close()
            wait_until(lambda: lm.report()["open"] == 1, "the call of the client that left has let go of the server")
            lm.fault("none")
            self.assertEqual("Paris", self.ok(beside.result())["outputs"]["answer"])
            self.assertEqual(0, daemon.pool()["restarts"])

    def test_a_key_is_in_no_log_and_no_listing_of_the_daemon(self):
        with FakeLm(SCRIPT, api_key="another") as lm:
            daemon, client = self.configured(lm, env={"KEELBACK_DSPY_LOG": "debug"}, settings={"log.level": "trace"})
            refused = self.ask(client, "ann")
            self.assertEqual("error", refused.outcome)
            told = [str(refused.json)] + [client.get(path).body.decode() for path in (
                "/v1/pool", "/v1/workers", "/v1/sessions", "/v1/config", "/v1/functions", "/metrics")]
            told.append(client.call("stats", session="ann").body.decode())
            self.assertEqual(0, daemon.stop())
            self.assertNotIn(KEY, "\n".join([*told, *daemon.log]))


class Examples(unittest.TestCase):
    def run_example(self, *command):
        done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False,
                              timeout=240 * STRETCH)
        sys.stderr.write(done.stdout + done.stderr)
        return done

    def test_the_demonstration_comes_out_as_promised(self):
        done = self.run_example("examples/demo/demo.py", "--keelback", KEELBACK)
        self.assertEqual(0, done.returncode)
        self.assertIn("Everything came out as promised.", done.stdout)

    def test_the_measurement_of_the_page_measures_what_it_says(self):
        done = self.run_example("tests/dspy/waiting_bench.py", "--keelback", KEELBACK, "--sessions", 16, "--workers", 2, "--delay-ms", 300, "--rounds", 1)
        self.assertEqual(0, done.returncode)
        found = json.loads(done.stdout.splitlines()[-1])
        self.assertGreaterEqual(found["one_by_one"], 8 * 0.3)
        self.assertGreaterEqual(found["at_once"], 0.3)
        self.assertGreaterEqual(found["times_as_fast"], 2, "eight waits one after another against one; the rest is a busy machine's")

    def test_a_real_language_model_answers(self):
        done = self.run_example("examples/dspy_qa/run", "--keelback", KEELBACK)
        if done.returncode == 77:
            self.skipTest(done.stdout.strip())
        self.assertEqual(0, done.returncode)


if __name__ == "__main__":
    main()
