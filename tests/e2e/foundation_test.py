"""What the foundation promises, shown on a real daemon with real Python workers."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import (BACKEND, ROOT, STRETCH, Client, KeelbackTest, alive, children_of, concurrently, level, main, marked, proc_stat,  # noqa: E402
                              wait_until)

APPS = ROOT / "tests" / "apps"
COUNTER = ROOT / "examples" / "counter.py"


class Sessions(KeelbackTest):
    def test_a_hundred_concurrent_calls_in_each_of_twenty_sessions_are_counted_in_order_on_one_worker(self):
        # Sessions spread over workers that are up: those that open while there is one stay on it.
        daemon = self.serve(COUNTER, workers=4, settings={"pool.queue_max": 4096}).prewarm(4)

        def one(session):
            return lambda: daemon.client().call("count", session=session)

        operations = [one(f"s{number}") for _ in range(100) for number in range(20)]
        names = [f"s{number}" for _ in range(100) for number in range(20)]
        replies = concurrently(operations, threads=100)
        homes = {}
        for name in {f"s{number}" for number in range(20)}:
            own = [reply for reply, session in zip(replies, names) if session == name]
            self.assertEqual(["ok"] * 100, [reply.outcome for reply in own], own[:3])
            self.assertEqual(list(range(1, 101)), sorted(reply.json for reply in own))
            self.assertEqual(1, len({reply.headers["Keelback-Worker"] for reply in own}), name)
            self.assertEqual({"1"}, {reply.headers["Keelback-Epoch"] for reply in own})
            self.assertEqual(1, len({reply.headers["Keelback-Birth"] for reply in own}))
            homes[name] = own[0].headers["Keelback-Worker"]
        spread = {worker: list(homes.values()).count(worker) for worker in set(homes.values())}
        self.assertEqual(4, len(spread), spread)
        self.assertLessEqual(max(spread.values()), 10, spread)

    def test_calls_pipelined_into_one_session_run_in_the_order_they_were_sent(self):
        daemon = self.serve(COUNTER, workers=2)
        client = daemon.client()
        self.assertEqual(list(range(1, 51)), [client.call("count", session="s").json for _ in range(50)])

    def test_the_runtime_timeout_is_obeyed(self):
        """Through HTTP and the command, on all three backends; the C++ face has a test of the same name."""
        for backend, app in (("python", COUNTER), ("fake", "standard"), ("sim", "standard")):
            if BACKEND in (None, backend):
                with self.subTest(backend=backend):
                    self._the_runtime_timeout_is_obeyed(self.serve(app, backend=backend, workers=2, settings={"sessions.idle_ttl": "5m"}))

    def _the_runtime_timeout_is_obeyed(self, daemon):
        client = daemon.client()
        for name in ("a", "b", "c"):
            self.assertEqual(1, client.call("count", session=name).json)
        self.assertEqual(3, client.get("/v1/sessions").json["total"])

        patched = client.request("PATCH", "/v1/config", body=json.dumps({"sessions.idle_ttl": "200ms"}), headers={"Content-Type": "application/json"})
        self.assertEqual(200, patched.status, patched)
        changed_at = time.monotonic()
        wait_until(lambda: time.monotonic() >= changed_at + 0.25, "250 ms have passed")
        expired = client.call("count", session="a")
        self.assertEqual((410, "session_expired", "none"), (expired.status, expired.outcome, expired.json["effect"]), expired)
        self.assertEqual(0, client.get("/v1/sessions").json["total"])
        statistics = client.get("/v1/pool").json["sessions"]
        self.assertEqual((0, 3), (statistics["active"], statistics["expired"]))
        metrics = daemon.metrics()
        self.assertEqual(0, metrics["keelback_sessions_active"])
        self.assertEqual(3, metrics['keelback_sessions_total{event="expired"}'])
        listed = self.run_cli("sessions", "--json", "--url", f"http://{daemon.address}")
        self.assertEqual(0, json.loads(listed.stdout)["total"], listed.stdout)

        self.assertEqual(0, self.run_cli("config", "set", "sessions.idle_ttl=5m", "--url", f"http://{daemon.address}").returncode)
        reopened = client.call("count", session="a")
        self.assertEqual(1, reopened.json, "a new session, with a new state")
        self.assertEqual("1", reopened.headers["Keelback-Epoch"])
        later = time.monotonic() + 0.3
        wait_until(lambda: time.monotonic() >= later, "300 ms have passed")
        self.assertEqual(2, client.call("count", session="a").json)

        # The command changes it as well as it shows it.
        self.assertEqual(0, self.run_cli("config", "set", "sessions.idle_ttl=100ms", "--url", f"http://{daemon.address}").returncode)
        wait_until(lambda: client.get("/v1/sessions").json["total"] == 0, "the session has expired")
        called = self.run_cli("call", "count", "--session", "a", "--url", f"http://{daemon.address}")
        self.assertEqual(1, called.returncode, called)
        self.assertIn("session_expired", called.stderr)


class ColdPool(KeelbackTest):
    def test_twenty_of_twenty_on_a_cold_pool_whose_start_takes_two_seconds(self):
        daemon = self.serve(APPS / "slow_start.py", workers=4, env={"SLOW_START_SETUP_S": "2"}, wait="listening")
        began = time.monotonic()
        replies = concurrently([lambda: Client(daemon.address).call("pid") for _ in range(20)])
        took = time.monotonic() - began
        self.assertEqual(["ok"] * 20, [reply.outcome for reply in replies], replies)
        self.assertLess(took, 5 * STRETCH)
        before = {worker["pid"] for worker in daemon.prewarm(4).workers()}
        self.assertLessEqual({reply.json for reply in replies}, before)
        self.assertEqual(4, len(before))

        # A client that dies with its call running takes no worker with it.
        vanishing = subprocess.Popen([sys.executable, "-c", "import http.client,sys,time\n"
                                      "c=http.client.HTTPConnection(sys.argv[1]); c.request('POST','/v1/call/pid',body='[]',"
                                      "headers={'Content-Type':'application/json'}); time.sleep(100)", daemon.address])
        wait_until(lambda: daemon.pool()["calls"]["accepted"] >= 21, "the vanishing client's call was accepted")
        vanishing.kill()
        vanishing.wait()
        self.assertEqual(before, {worker["pid"] for worker in daemon.workers()})

        for index in (0, 1):
            daemon.kill_worker(index)
        replies = concurrently([lambda: daemon.client().call("pid") for _ in range(5)])
        self.assertEqual(["ok"] * 5, [reply.outcome for reply in replies], replies)

    def test_a_pool_of_four_is_ready_after_one_import_not_four(self):
        began = time.monotonic()
        daemon = self.serve(APPS / "slow_start.py", workers=4, env={"SLOW_START_IMPORT_S": "2"}).prewarm(4)
        took, imported = time.monotonic() - began, daemon.pool()["start"]["import_s"]
        self.assertGreaterEqual(imported, 2.0)
        # A loaded machine makes everything longer, but it cannot make one import out of two.
        self.assertLess(took, 1.9 * imported)
        killed, killed_at = daemon.kill_worker(2), time.monotonic()
        replacement = daemon.wait_replaced(killed, timeout=0.9 * imported)
        replaced = time.monotonic() - killed_at
        self.assertNotEqual(killed["pid"], replacement["pid"])
        print(f"T = {imported:.3f} s: 4 workers ready {took:.3f} s after the start of serve, seen from outside (the aim is 1.15 T + 50 ms = "
              f"{1.15 * imported + 0.05:.3f} s); a replacement {1000 * replaced:.0f} ms after SIGKILL (the aim is 50 ms)", file=sys.stderr)


class Faults(KeelbackTest):
    def test_a_killed_worker_costs_the_one_call_it_was_running(self):
        daemon = self.serve(APPS / "offspring.py", workers=2).prewarm(2)
        replies = []
        began = [self.tmp / f"began-{number}" for number in range(2)]
        threads = [threading.Thread(target=lambda b=b: replies.append(daemon.client().call("work", [1.0, str(b)]))) for b in began]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(path.exists() for path in began), "both functions run")
        killed = daemon.kill_worker()
        for thread in threads:
            thread.join()
        self.assertEqual(["ok", "worker_died"], sorted(reply.outcome for reply in replies))
        died = next(reply for reply in replies if reply.outcome == "worker_died")
        self.assertEqual(502, died.status)
        self.assertEqual("maybe", died.json["effect"])
        self.assertEqual(9, died.json["death"]["signal"])
        self.assertEqual("application/problem+json", died.headers["Content-Type"])
        daemon.wait_replaced(killed)
        self.assertFalse(alive(killed["pid"]))

    def test_bad_input_each_gets_its_outcome_and_the_pool_goes_on(self):
        daemon = self.serve(APPS / "misbehaving.py", workers=2, settings={"calls.payload_max": "1MiB"}).prewarm(2)
        call = daemon.client().call
        self.assertEqual((404, "unknown_function"), (call("nothere").status, call("nothere").outcome))
        for arguments in ([1], [1, 2, 3], {"a": 1, "c": 2}, "text", 7):
            reply = call("needs", arguments)
            self.assertEqual((400, "bad_request", "none"), (reply.status, reply.outcome, reply.json["effect"]), arguments)
        not_json = daemon.client().request("POST", "/v1/call/fine", body="{not json", headers={"Content-Type": "application/json"})
        self.assertEqual((400, "bad_request"), (not_json.status, not_json.outcome), not_json)
        for name, arguments, word in (("unserialisable", [], "object"), ("cyclic", [], "ircular"), ("huge", [4 << 20], "large"),
                                      ("recursion", [], "recursion"), ("sys_exit", [], "SystemExit"), ("raises", [], "bad value é")):
            reply = call(name, arguments)
            self.assertEqual((500, "error", "done"), (reply.status, reply.outcome, reply.json["effect"]), (name, reply))
            self.assertIn(word, json.dumps(reply.json, ensure_ascii=False), name)
        raised = call("raises").json["python"]
        self.assertEqual(("ValueError", "bad value é"), (raised["type"], raised["message"]))
        self.assertIn("KeyError: 'missing'", raised["traceback"])
        self.assertNotIn("keelback/worker.py", raised["traceback"], "our own frames say nothing to the author")
        self.assertEqual(50000, call("flood", [50000]).json)

        exited = call("os_exit", [5])
        self.assertEqual(("worker_died", 5), (exited.outcome, exited.json["death"]["exit_code"]), exited)
        self.assertIn("leaving by os._exit", exited.json["death"]["stderr_tail"])
        crashed = call("segfault")
        self.assertEqual(("worker_died", signal.SIGSEGV), (crashed.outcome, crashed.json["death"]["signal"]), crashed)
        self.assertIn("about to read address 0", crashed.json["death"]["stderr_tail"])

        too_large = daemon.client().request("POST", "/v1/call/fine", body=b"[" + b" " * (2 << 20) + b"]", headers={"Content-Type": "application/json"})
        self.assertEqual((413, "too_large"), (too_large.status, too_large.outcome))
        deep = daemon.client().request("POST", "/v1/call/fine", body=b"[" * 300_000 + b"]" * 300_000, headers={"Content-Type": "application/json"})
        self.assertEqual((400, "bad_request"), (deep.status, deep.outcome), deep)
        self.assertIn("nested too deeply", deep.json["detail"])
        wait_until(lambda: daemon.pool()["ready"], "the pool is ready again")
        self.assertEqual("fine", call("fine").json)

    def test_a_body_of_a_gibibyte_is_refused_however_it_is_sent(self):
        daemon = self.serve(APPS / "misbehaving.py", workers=1)
        piece = b"x" * (1 << 20)

        def announced_only():
            return b"Content-Length: %d\r\n\r\n" % (1 << 30), ()

        def announced_and_sent():
            return b"Content-Length: %d\r\n\r\n" % (1 << 30), (piece for _ in range(1024))

        def in_chunks():
            return b"Transfer-Encoding: chunked\r\n\r\n", (b"%x\r\n%s\r\n" % (len(piece), piece) for _ in range(1024))

        for way in (announced_only, announced_and_sent, in_chunks):
            with self.subTest(way=way.__name__), socket.create_connection(daemon.address.rsplit(":", 1), timeout=60 * STRETCH) as connection:
                ending, pieces = way()
                connection.sendall(b"POST /v1/call/fine HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + ending)
                try:
                    for data in pieces:
                        connection.sendall(data)
                except OSError:
                    pass  # the server need not listen to the end
                reply = connection.recv(4096)
                self.assertTrue(reply.startswith(b"HTTP/1.1 413 "), reply)
                self.assertIn(b'"outcome":"too_large","effect":"none"', reply)
        peak = int(Path(f"/proc/{daemon.pid}/status").read_text().split("VmHWM:")[1].split()[0])
        self.assertLess(peak, 200 << 10, "KiB at most at any time: the body was not kept")
        self.assertEqual("fine", daemon.client().call("fine").json)

    def test_the_zygotes_death_costs_no_call_and_it_comes_back(self):
        daemon = self.serve(COUNTER, workers=2).prewarm(2)
        client = daemon.client()
        self.assertEqual(1, client.call("count", session="s").json)
        zygote = daemon.pool()["start"]["zygote_pid"]
        self.assertTrue(alive(zygote))
        os.kill(zygote, signal.SIGKILL)
        for expected in range(2, 52):
            self.assertEqual(expected, client.call("count", session="s").json)
        wait_until(lambda: daemon.pool()["start"]["zygote_pid"] not in (0, zygote) and daemon.pool()["start"]["state"] == "up", "a new zygote is up")
        daemon.wait_replaced(daemon.kill_worker())

    def test_ten_thousand_calls_under_random_kills_each_have_one_outcome_and_the_counters_add_up(self):
        total = level(10_000, 20_000, 50_000)
        daemon = self.serve(COUNTER, workers=4, settings={"pool.queue_max": 4096}).prewarm(4)
        stop = threading.Event()
        kills = []

        def killer():
            turn = 0
            while not stop.is_set():
                turn += 1
                up = [worker for worker in daemon.workers() if worker["state"] in ("ready", "busy")]
                if up:
                    pid = up[turn % len(up)]["pid"]
                    try:
                        os.kill(pid, signal.SIGKILL)
                        kills.append(pid)
                    except ProcessLookupError:
                        pass
                stop.wait(0.05)

        counts = {}
        lock = threading.Lock()

        def client_run(number):
            client = daemon.client()
            for index in range(total // 16):
                session = f"s{number}-{index % 5}" if index % 2 else None
                reply = client.call("count" if session else "hello", session=session)
                with lock:
                    counts[reply.outcome] = counts.get(reply.outcome, 0) + 1

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            concurrently([lambda n=n: client_run(n) for n in range(16)])
        finally:
            stop.set()
            thread.join()
        self.assertGreater(len(kills), 3)
        self.assertEqual(total // 16 * 16, sum(counts.values()))
        self.assertLessEqual(set(counts), {"ok", "worker_died", "session_lost"}, counts)
        self.assertGreater(counts["ok"], total * 0.5)
        pool = wait_until(lambda: (p := daemon.pool()) and p["calls"]["in_flight"] == 0 and p, "nothing in flight")
        calls = dict(pool["calls"])
        accepted, in_flight, _ = (calls.pop(name) for name in ("accepted", "in_flight", "late"))
        self.assertEqual(accepted, in_flight + sum(calls.values()))
        self.assertEqual(counts, {name: n for name, n in calls.items() if n})
        metrics = daemon.metrics()
        for name, n in calls.items():
            self.assertEqual(n, metrics.get(f'keelback_calls_total{{outcome="{name}"}}', 0), name)
        self.assertEqual(accepted, metrics["keelback_calls_accepted_total"])


class Cleanliness(KeelbackTest):
    @staticmethod
    def blocked_signals(pid):
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        return int(status["SigBlk"], 16)

    def test_workers_and_zygote_are_clean(self):
        daemon = self.serve(COUNTER, workers=2).prewarm(2)
        zygote = daemon.pool()["start"]["zygote_pid"]
        self.assertEqual("zygote", daemon.pool()["start"]["mode"])
        self.assertEqual(1, len(os.listdir(f"/proc/{zygote}/task")))
        for worker in daemon.workers():
            pid = worker["pid"]
            self.assertLessEqual(len(os.listdir(f"/proc/{pid}/task")), 2, "the main thread and the control thread")
            descriptors = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
            self.assertLessEqual(len(descriptors), 14, descriptors)
            sockets = [target for target in descriptors.values() if target.startswith("socket:")]
            self.assertEqual(2, len(sockets), descriptors)
            self.assertEqual("/dev/null", descriptors["0"])
            # A worker says READY before its control thread is there; the C library blocks all signals while it makes one.
            wait_until(lambda pid=pid: self.blocked_signals(pid) == 0, "no signal is blocked")
            self.assertEqual(pid, int(proc_stat(pid)[2]), "leader of its own group")

    def test_a_thread_started_at_import_falls_back_to_exec_and_names_the_module(self):
        module = self.app("import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()\n", "starts_a_thread.py")
        app = self.app("import starts_a_thread, keelback\n@keelback.function\ndef f():\n    return 1\n")
        daemon = self.serve(app, workers=2).prewarm(2)
        start = daemon.pool()["start"]
        self.assertEqual(("exec", "fallback"), (start["mode"], start["state"]), start)
        self.assertIn(module.stem, start["reason"])
        self.assertEqual(1, daemon.client().call("f").json)

    def test_bad_applications_say_what_is_wrong(self):
        for name, source, words in (("missing.py", None, ["missing.py"]),
                                    ("syntax.py", "def f(:\n", ["SyntaxError", "syntax.py", "line 1"]),
                                    ("import_error.py", "import not_there_at_all\n", ["ModuleNotFoundError", "not_there_at_all"]),
                                    ("raises.py", "raise RuntimeError('no licence')\n", ["RuntimeError", "no licence"])):
            path = self.app(source, name) if source else self.tmp / name
            daemon = self.serve(path, workers=1, wait="listening", args=["--wait-for-app"])
            reason = wait_until(lambda d=daemon: (r := d.client().get("/readyz")).status == 503 and any(w in r.body.decode() for w in words[:1]) and r,
                                f"{name}: readyz names {words[0]}; log {daemon.log_text()}")
            for word in words:
                self.assertIn(word, reason.body.decode(), name)
            refused = daemon.client().call("f")
            self.assertEqual((503, "not_ready"), (refused.status, refused.outcome), refused)
            self.assertIn(words[0], refused.body.decode())
            daemon.stop()


class Ending(KeelbackTest):
    def _with_offspring(self, daemon):
        """Two workers hold the GIL in a C call, others have children of every kind; returns everybody's pid and start time."""
        client = daemon.client()
        for function in ("child", "own_session", "daemon"):
            self.assertEqual("ok", client.call(function).outcome)
        for _ in range(2):
            holder = daemon.client()
            threading.Thread(target=lambda h=holder: self._swallow(lambda: h.call("hold_gil", [20])), daemon=True).start()
        wait_until(lambda: sum(w["state"] == "busy" for w in daemon.workers()) == 2, "two workers hold the GIL")
        found = [pid for pid in marked(self.test_id) if pid != daemon.pid]
        self.assertGreaterEqual(len(found), 2 + 4 + 3, "guard, zygote, four workers, three children")
        return {pid: proc_stat(pid)[19] for pid in found}

    @staticmethod
    def _swallow(operation):
        try:
            operation()
        except OSError:
            pass

    def test_sigkill_of_the_supervisor_leaves_no_process(self):
        daemon = self.serve(APPS / "offspring.py", workers=4).prewarm(4)
        everybody = self._with_offspring(daemon)
        daemon.kill()
        began = time.monotonic()
        wait_until(lambda: not any(alive(pid, start) for pid, start in everybody.items()), "every process is gone", 1.0)
        self.assertLess(time.monotonic() - began, 1.0 * STRETCH)
        self.daemons.clear()

    def test_sigterm_drains(self):
        daemon = self.serve(APPS / "offspring.py", workers=2).prewarm(2)
        replies = []
        running = threading.Thread(target=lambda: replies.append(daemon.client().call("work", [1.0])))
        waiting = daemon.client()
        self.assertEqual("ok", waiting.call("work", [0]).outcome)  # the connection is open before the drain begins
        running.start()
        wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()), "a call is running")
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: any("drain" in line for line in daemon.log), "the drain has begun")
        late = waiting.call("work", [0])
        self.assertEqual((503, "shutting_down"), (late.status, late.outcome), late)
        running.join()
        self.assertEqual(["ok"], [reply.outcome for reply in replies])
        self.assertEqual(0, daemon.wait())

    def test_two_supervisors_do_not_touch_each_other(self):
        other = self.serve(COUNTER, workers=2, test_id=self.test_id).prewarm(2)
        first = other.client().call("count", session="s")
        for _ in range(3):
            daemon = self.serve(COUNTER, workers=2, wait="ready")
            daemon.kill()
        self.assertEqual(2, other.client().call("count", session="s").json)
        self.assertEqual(first.headers["Keelback-Worker"], other.client().call("count", session="s").headers["Keelback-Worker"])


class Reload(KeelbackTest):
    def test_new_code_is_served_without_losing_a_call_and_bad_code_changes_nothing(self):
        app = self.app("import keelback\n@keelback.function\ndef version():\n    return 1\n")
        daemon = self.serve(app, workers=2).prewarm(2)
        client = daemon.client()
        self.assertEqual(1, client.call("version").json)
        app.write_text("import keelback\n@keelback.function\ndef version():\n    return oops(\n")
        failed = client.request("POST", "/v1/reload")
        self.assertGreaterEqual(failed.status, 400, failed)
        self.assertIn("SyntaxError", failed.body.decode())
        self.assertEqual(1, client.call("version").json)
        app.write_text("import keelback\n@keelback.function\ndef version():\n    return 2\n")
        self.assertLess(client.request("POST", "/v1/reload").status, 300)

        def all_new():
            reply = client.call("version")
            self.assertEqual("ok", reply.outcome, reply)
            return reply.json == 2 and {client.call("version").json for _ in range(8)} == {2}

        wait_until(all_new, "every worker serves the new code")


class CommandLine(KeelbackTest):
    def test_run_prints_the_result_and_nothing_else(self):
        done = self.run_cli("run", "examples/hello.py", "greet", '{"name":"Ada"}')
        self.assertEqual((0, '"Hello, Ada!"\n', ""), (done.returncode, done.stdout, done.stderr))

    def test_run_reports_errors_on_stderr(self):
        for arguments, words in ((["examples/hello.py", "greet", '{"nome":"Ada"}'], ["bad_request", "nome"]),
                                 (["examples/hello.py", "nothere"], ["unknown_function", "nothere"]),
                                 (["examples/hello.py", "greet", "{"], ["JSON"]),
                                 (["examples/nothere.py", "greet"], ["nothere.py"]),
                                 (["tests/apps/misbehaving.py", "raises"], ["ValueError", "bad value é", "Traceback"])):
            done = self.run_cli("run", *arguments)
            self.assertNotEqual(0, done.returncode, arguments)
            self.assertEqual("", done.stdout, arguments)
            for word in words:
                self.assertIn(word, done.stderr, arguments)


if __name__ == "__main__":
    main()
