"""The keelback command: what it prints, where, and its exit codes. The classes on the simulator need no Python workers."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import (KEELBACK, ROOT, STRETCH, KeelbackTest, main, wait_until)  # noqa: E402

OK, OUTCOME, USAGE, UNREACHABLE, START = range(5)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class CliTest(KeelbackTest):
    def expect(self, code, *args, **options):
        """Runs the command, expects the exit code, and returns (stdout, stderr)."""
        done = self.run_cli(*args, **options)
        self.assertEqual(code, done.returncode, f"{args}\nstdout: {done.stdout}\nstderr: {done.stderr}")
        return done.stdout, done.stderr

    def expect_json(self, code, *args, **options):
        out, _ = self.expect(code, *args, "--json", **options)
        return json.loads(out)


class Offline(CliTest):
    """What needs no server."""

    def test_wrong_words_get_the_nearest_right_one(self):
        self.assertIn("did you mean status?", self.expect(USAGE, "stauts")[1])
        self.assertIn("did you mean --workers?", self.expect(USAGE, "serve", "app.py", "--worker", "2")[1])
        self.assertIn("did you mean pool.workers?", self.expect(USAGE, "serve", "app.py", "--set", "pool.worker=2")[1])
        self.assertEqual("usage", self.expect_json(USAGE, "stauts")["error"]["kind"])
        out, err = self.expect(USAGE)
        self.assertEqual("", out)
        self.assertIn("Usage: keelback", err)

    def test_help_has_an_example_and_the_exit_codes(self):
        out, err = self.expect(OK, "--help")
        self.assertEqual("", err)
        commands = re.findall(r"^  ([a-z]+) ", out, re.MULTILINE)
        self.assertGreaterEqual(len(commands), 13, out)
        for command in commands:
            page, _ = self.expect(OK, command, "--help")
            self.assertIn(f"keelback {command}", page.split("Example:")[1], command)
            self.assertIn("Exit codes: 0 ok", page, command)

    def test_version(self):
        self.assertRegex(self.expect(OK, "version")[0], r"^keelback \d+\.\d+\.\d+ \(")
        self.assertRegex(self.expect_json(OK, "version")["version"], r"^\d+\.\d+\.\d+$")

    def test_no_server_is_exit_code_3(self):
        url = f"127.0.0.1:{free_port()}"
        for command in (["status"], ["workers"], ["sessions"], ["config", "get"], ["drain"], ["call", "f"], ["quarantine"],
                        ["cluster", "status"], ["cluster", "drain"]):
            out, err = self.expect(UNREACHABLE, *command, "--url", url)
            self.assertEqual("", out)
            self.assertIn(f"cannot reach the server at {url}: Connection refused", err)
            self.assertEqual("unreachable", self.expect_json(UNREACHABLE, *command, "--url", url)["error"]["kind"])
        self.expect(UNREACHABLE, "status", env={"KEELBACK_URL": url})
        self.expect(USAGE, "status", "--url", "nonsense:port")

    def test_what_is_no_keelback_server_is_said_so(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer(reply):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)

            url = f"127.0.0.1:{server.getsockname()[1]}"
            for reply, words in ((b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi", "is not a Keelback server"),
                                 (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "is not a Keelback server"),
                                 (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
                                 (b"", "closed before the reply was complete"),
                                 (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "closed before the reply was complete")):
                thread = threading.Thread(target=answer, args=(reply,))
                thread.start()
                _, err = self.expect(UNREACHABLE, "status", "--url", url)
                thread.join()
                self.assertIn(words, err, reply)

    def test_json_of_any_shape_is_survived(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer(body):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

            url = f"127.0.0.1:{server.getsockname()[1]}"
            wrong = b'{"ready": 1, "reasons": 7, "workers": [1], "queue": "x", "calls": null, "sessions": [[]], "items": {"a": [1]}, "values": {"pool.workers": 3}}'
            for command in (["status"], ["workers"], ["sessions"], ["quarantine"], ["config", "get"], ["config", "get", "pool.workers"],
                            ["config", "set", "pool.workers=3"], ["drain"], ["reload"], ["call", "f"], ["cluster", "status"]):
                for body in (wrong, b"[]", b"[1, [2]]", b"7", b"null"):
                    thread = threading.Thread(target=answer, args=(body,))
                    thread.start()
                    done = self.run_cli(*command, "--url", url)
                    thread.join()
                    self.assertIn(done.returncode, (OK, OUTCOME, UNREACHABLE), (command, body, done.stderr))

    def test_config_check_names_file_line_and_column(self):
        file = self.tmp / "k.toml"
        file.write_text("[pool]\nworkers = 0\n")
        self.assertIn(f"{file}:2: pool.workers may be 0 only in a pool that grows", self.expect(USAGE, "config", "check", "--config", file)[1])
        file.write_text("[pool]\nworkers = 1025\n")
        self.assertIn(f"{file}:2:11: pool.workers: '1025' is above the greatest value, 1024", self.expect(USAGE, "config", "check", "--config", file)[1])
        self.expect(USAGE, "serve", "app.py", "--config", file)
        file.write_text("[pool]\nworkers = 3\n")
        out, _ = self.expect(OK, "config", "check", "--config", file, "--set", "calls.grace=1s", env={"KEELBACK_LOG_LEVEL": "debug"})
        self.assertRegex(out, rf"pool\.workers +3 +file \({re.escape(str(file))}:2\)")
        self.assertRegex(out, r"calls\.grace +1s +flags \(--set\)")
        self.assertRegex(out, r"log\.level +debug +environment \(KEELBACK_LOG_LEVEL\)")
        document = self.expect_json(OK, "config", "check", env={"KEELBACK_POOL_WORKER": "3"})
        self.assertEqual(2, document["values"]["pool.workers"]["value"])
        self.assertIn("did you mean KEELBACK_POOL_WORKERS?", document["warnings"][0])

    def test_doctor_finds_what_is_there_and_what_is_not(self):
        report = self.expect_json(OK, "doctor", "--set", f"workers.python={sys.executable}")
        found = {check["name"]: check for check in report["checks"]}
        self.assertTrue(report["ok"])
        self.assertIn(".".join(map(str, sys.version_info[:3])), found["python"]["found"])
        self.assertEqual("ok", found["kernel"]["finding"])
        self.assertEqual("ok", found["runtime"]["finding"], found)
        self.assertTrue(found["keelback-guard"]["found"].endswith("keelback-guard"))
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # tests/free_threaded has the other one
            self.assertEqual(("ok", "on, as in any usual Python"), (found["gil"]["finding"], found["gil"]["found"]))
            with_app = self.expect_json(OK, "doctor", "nothing.py", "--set", f"workers.python={sys.executable}")
            self.assertIn(found["gil"], with_app["checks"], "nothing is imported: there is nothing to find out")
        out, _ = self.expect(START, "doctor", "--set", "workers.python=/nowhere/python")
        self.assertRegex(out, r"(?m)^fail  python +/nowhere/python cannot be started")

    # Goal: what pip has installed beside the application is of this version, or the user is told which of the two wins where.
    def test_doctor_compares_the_package_of_the_environment(self):
        version = self.expect(OK, "version")[0].split()[1]
        for installed, finding in ((version, "ok"), ("9.9.9", "warn")):
            folder = self.tmp / f"keelback-{installed}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: keelback\nVersion: {installed}\n")
            report = self.expect_json(OK, "doctor", "--set", f"workers.python={sys.executable}", env={"PYTHONPATH": str(self.tmp)})
            found = {check["name"]: check for check in report["checks"]}
            self.assertEqual(finding, found["package"]["finding"], found)
            self.assertIn(installed, found["package"]["found"])
            shutil.rmtree(folder)

    def test_run_on_the_simulator(self):
        run = ["run", "model", "--backend", "sim"]
        self.assertEqual(('{"a": 1}\n', ""), self.expect(OK, *run, "echo", '[{"a": 1}]'))
        out, err = self.expect(OUTCOME, *run, "fail", '["no luck"]')
        self.assertEqual("", out)
        self.assertIn("fail: error, effect done", err)
        self.assertIn("no luck", err)
        self.assertIn("unknown_function", self.expect(OUTCOME, *run, "nothere")[1])
        self.assertEqual("0\n1\n2\n", self.expect(OK, *run, "items", "[3]", "--stream")[0])
        document = self.expect_json(OK, *run, "echo", '["x"]')
        self.assertEqual(("ok", "done", "x", 1), tuple(document[key] for key in ("outcome", "effect", "result", "attempts")))
        large = self.expect(OK, *run, "echo", '[{"n": 1180591620717411303424}]', "--json")[0]
        self.assertIn('"result":{"n": 1180591620717411303424}}', large, "as it came: read again it would be a float")
        self.assertEqual("error", self.expect_json(OUTCOME, *run, "fail", '["x"]')["outcome"])
        self.assertIn("not JSON", self.expect(USAGE, *run, "echo", "{")[1])
        self.assertEqual('"from stdin"\n', self.expect(OK, *run, "echo", "-", input='["from stdin"]')[0])

    def test_a_taken_address_is_a_failed_start(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            _, err = self.expect(START, "serve", "model", "--backend", "sim", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        self.assertIn("Address already in use", err)

    def test_an_open_address_without_a_token_is_a_wrong_configuration(self):
        _, err = self.expect(USAGE, "serve", "model", "--backend", "sim", "--listen", "0.0.0.0:0")
        self.assertIn("set server.token", err)


class Server(CliTest):
    """A daemon on the simulator, asked by the command."""

    def setUp(self):
        super().setUp()
        self.daemon = self.serve("model", backend="sim")
        self.url = ["--url", self.daemon.address]

    def test_call(self):
        self.assertEqual(('"hi"\n', ""), self.expect(OK, "call", "echo", '["hi"]', *self.url))
        first = self.expect_json(OK, "call", "count", "--session", "s", "--deadline", "5s", *self.url)
        self.assertEqual((1, "ok", 1), (first["result"], first["outcome"], first["epoch"]))
        fence = f"{first['birth']}.{first['epoch']}"
        self.assertEqual("2\n", self.expect(OK, "call", "count", "--session", "s", "--expect-epoch", fence, *self.url)[0])
        self.assertIn("stale_epoch", self.expect(OUTCOME, "call", "count", "-s", "s", "--expect-epoch", "9", *self.url)[1])
        self.assertIn("bad_request", self.expect(OUTCOME, "call", "count", "-s", "s", "--open", "new", *self.url)[1])
        out, err = self.expect(OUTCOME, "call", "fail", '["no luck"]', *self.url)
        self.assertEqual("", out)
        self.assertIn("ValueError: no luck", err)
        problem = self.expect_json(OUTCOME, "call", "fail", '["no luck"]', *self.url)
        self.assertEqual(("error", "done"), (problem["outcome"], problem["effect"]))
        self.assertEqual(["0", "1", "2"], self.expect(OK, "call", "items", "[3]", "--stream", *self.url)[0].split())
        lines = [json.loads(line) for line in self.expect(OK, "call", "items", "[2]", "--stream", "--json", *self.url)[0].splitlines()]
        self.assertEqual([{"item": 0}, {"item": 1}], lines[:2])
        self.assertEqual("ok", lines[2]["end"]["outcome"])
        self.assertIn("unknown_function", self.expect(OUTCOME, "call", "a/b c", *self.url)[1])

    def test_status_workers_and_sessions(self):
        self.expect(OK, "call", "count", "-s", "é /x", *self.url)
        out, _ = self.expect(OK, "status", *self.url)
        self.assertRegex(out, r"(?m)^ready +yes$")
        self.assertRegex(out, r"(?m)^calls +1 accepted, 0 in flight: 1 ok$")
        self.assertNotIn("\x1b", out, "no colour where nobody sees it")
        self.assertEqual(self.daemon.pool()["calls"], self.expect_json(OK, "status", *self.url)["calls"])
        out, _ = self.expect(OK, "workers", *self.url)
        self.assertEqual(3, len(out.splitlines()))
        self.assertEqual([(w["slot"], w["generation"]) for w in self.daemon.workers()],
                         [(w["slot"], w["generation"]) for w in self.expect_json(OK, "workers", *self.url)])
        self.assertIn("é /x", self.expect(OK, "sessions", *self.url)[0])
        for name in ("b", "c"):
            self.expect(OK, "call", "count", "-s", name, *self.url)
        page, _ = self.expect(OK, "sessions", "list", "--limit", "1", *self.url)
        self.assertIn("--after 'b'", page)
        self.assertNotIn("\nc ", page)
        self.assertIn("\nc ", self.expect(OK, "sessions", "list", "--after", "b", *self.url)[0])
        self.expect(OK, "sessions", "end", "é /x", *self.url)
        self.assertEqual(2, self.expect_json(OK, "sessions", *self.url)["total"])
        self.assertIn("no such session", self.expect(OUTCOME, "sessions", "end", "é /x", *self.url)[1])
        self.assertIn("nothing is in quarantine", self.expect(OK, "quarantine", *self.url)[0])
        self.expect(OUTCOME, "quarantine", "release", "00", *self.url)

    def test_config_get_and_set(self):
        out, _ = self.expect(OK, "config", "get", *self.url)
        self.assertRegex(out, r"(?m)^pool\.workers +2 +flags \(--workers\) +yes, existing$")
        self.assertRegex(out, r"(?m)^pool\.backend +sim +flags \(--set\) +no$")
        out, _ = self.expect(OK, "config", "set", "sessions.idle_ttl=5m", "pool.workers=3", *self.url)
        self.assertRegex(out, r"sessions\.idle_ttl +5m +runtime")
        wait_until(lambda: len(self.daemon.workers()) == 3, "the pool has three workers")
        out, _ = self.expect(OK, "config", "get", "sessions.idle_ttl", *self.url)
        self.assertTrue(out.startswith("sessions.idle_ttl = 5m\n"), out)
        self.assertEqual("runtime", self.expect_json(OK, "config", "get", "sessions.idle_ttl", *self.url)["source"])
        _, err = self.expect(USAGE, "config", "set", "sessions.idle_ttl=6m", "pool.backend=fake", *self.url)
        self.assertIn("pool.backend: cannot change while the program runs", err)
        self.assertEqual("5m", self.expect_json(OK, "config", "get", "sessions.idle_ttl", *self.url)["value"], "all or nothing")
        self.expect(USAGE, "config", "set", "pool.workers=0", *self.url)
        self.expect(OUTCOME, "config", "set", "pool.workers=2", "--if-match", "1-00000000", *self.url)
        etag = self.daemon.client().get("/v1/config").headers["ETag"].strip('"')
        self.expect(OK, "config", "set", "pool.workers=2", "--if-match", etag, *self.url)

    def test_recycle_and_drain(self):
        slot, generation = next((worker["slot"], worker["generation"]) for worker in self.daemon.workers())
        self.expect(OK, "recycle", slot, *self.url)
        wait_until(lambda: any(w["slot"] == slot and w["generation"] > generation for w in self.daemon.workers()), "the slot has a new generation")
        self.expect(OUTCOME, "recycle", "99", *self.url)
        self.expect(OK, "drain", *self.url)
        self.assertEqual(0, self.daemon.wait())


class Serving(CliTest):
    """serve itself: addresses, signals, the configuration file, secrets."""

    def test_json_says_where_it_listens(self):
        process = subprocess.Popen([KEELBACK, "serve", "model", "--backend", "sim", "--listen", "127.0.0.1:0", "--listen", f"unix:{self.tmp}/k.sock", "--json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env={**os.environ, "KEELBACK_TEST_ID": self.test_id})
        try:
            first = json.loads(process.stdout.readline())
            self.assertEqual(process.pid, first["pid"])
            tcp, unix = first["listening"]
            self.assertRegex(tcp, r"^http://127\.0\.0\.1:\d+$")
            self.assertEqual(f"unix:{self.tmp}/k.sock", unix)
            for url in (tcp, unix):
                self.assertEqual("7\n", self.expect(OK, "call", "echo", "[7]", "--url", url)[0])
        finally:
            process.terminate()
            rest = process.stdout.read()
            process.stdout.close()
        self.assertEqual(0, process.wait(20 * STRETCH))
        self.assertEqual("", rest)
        self.assertFalse((self.tmp / "k.sock").exists())

    def test_sighup_reads_the_file_again_and_only_the_file(self):
        file = self.tmp / "k.toml"
        file.write_text('[sessions]\nidle_ttl = "5m"\n[log]\nlevel = "info"\n')
        daemon = self.serve("model", backend="sim", args=["--config", str(file)])

        def value(key):
            return daemon.client().get("/v1/config").json["values"][key]["value"]

        self.assertEqual("5m", value("sessions.idle_ttl"))
        file.write_text('[sessions]\nidle_ttl = "6m"\nstore = "sqlite:/x"\n')
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: value("sessions.idle_ttl") == "6m", "the new value is in force")
        wait_until(lambda: "sessions.store has changed" in daemon.log_text() and "changed: sessions.idle_ttl" in daemon.log_text(), "the log says so")
        file.write_text("[sessions\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: f"{file}:1:" in daemon.log_text() and "changes nothing" in daemon.log_text(), "the mistake is in the log")
        self.assertEqual("6m", value("sessions.idle_ttl"))

    def test_the_log_level_and_format_are_live(self):
        daemon = self.serve("model", backend="sim")
        url = ["--url", daemon.address]
        self.expect(OK, "config", "set", "log.format=json", *url)
        daemon.process.send_signal(signal.SIGHUP)
        line = wait_until(lambda: next((entry for entry in daemon.log if entry.startswith("{")), None), "a line of JSON is in the log")
        self.assertEqual({"time", "level", "message"}, set(json.loads(line)))
        self.expect(OK, "config", "set", "log.level=off", *url)
        lines = len(daemon.log)
        daemon.process.send_signal(signal.SIGHUP)
        self.expect(OK, "config", "set", "log.level=info", *url)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait()
        since = [entry for entry in daemon.log[lines:] if "PATCH /v1/config" not in entry]
        self.assertIn("SIGTERM", since[0], "the first line since is of the drain, not of the SIGHUP before")

    def test_a_token_is_asked_for_and_never_shown(self):
        daemon = self.serve("model", backend="sim", settings={"server.token": "hunter2"}, wait="listening")
        url = ["--url", daemon.address]
        wait_until(lambda: daemon.client().get("/readyz").status == 200, "ready")
        _, err = self.expect(OUTCOME, "status", *url)
        self.assertIn("KEELBACK_TOKEN", err)
        self.expect(OK, "status", "--token", "hunter2", *url)
        out, _ = self.expect(OK, "config", "get", *url, env={"KEELBACK_TOKEN": "hunter2"})
        self.assertRegex(out, r"server\.token +set +flags")
        self.assertNotIn("hunter2", out + daemon.log_text())

    def test_a_secret_is_in_no_log_and_in_no_reply(self):
        daemon = self.serve("model", backend="sim", settings={"server.token": "hunter2", "log.level": "trace"}, wait="listening")
        wait_until(lambda: daemon.client().get("/readyz").status == 200, "ready")
        client, said = daemon.client(), []

        def ask(method, path, body=None, token="hunter2", **headers):
            reply = client.request(method, path, body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers})
            said.append(reply.body.decode() + str(reply.headers))
            return reply.status

        for path in ("/v1/config", "/v1/pool", "/v1/workers", "/v1/functions", "/openapi.json", "/metrics", "/v1/nothere", "/readyz"):
            ask("GET", path)
        self.assertEqual(401, ask("GET", "/v1/pool", token="hunter3-guessed"))
        self.assertEqual(400, ask("PATCH", "/v1/config", '{"server.token":"new secret with blanks"}'))
        self.assertEqual(400, ask("PATCH", "/v1/config", '{"server.tokn":"hunter4-mistyped"}'))
        self.assertEqual(200, ask("PATCH", "/v1/config", '{"server.token":"hunter5-new"}'))
        self.assertEqual(401, ask("GET", "/v1/config"), "the old one is over")
        self.assertEqual(200, ask("GET", "/v1/config", token="hunter5-new"))
        ask("POST", "/v1/call/echo", "[1", token="hunter5-new")
        ask("POST", "/v1/call/echo", "[1]", token="hunter5-new", **{"Keelback-Deadline-Ms": "x"})
        self.assertEqual(0, daemon.stop())
        for secret in ("hunter2", "hunter3-guessed", "new secret with blanks", "hunter4-mistyped", "hunter5-new"):
            self.assertNotIn(secret, "\n".join(said))
            self.assertNotIn(secret, "\n".join(daemon.log))

    def test_a_service_manager_is_obeyed(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(self.tmp / "notify"))
        notify.settimeout(30 * STRETCH)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        # LISTEN_PID must be the process that serves: the shell becomes it.
        script = 'exec 3<&%d; export LISTEN_PID=$$; exec "$0" serve model --backend sim' % listener.fileno()
        process = subprocess.Popen(["bash", "-c", script, str(KEELBACK)], pass_fds=[listener.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, cwd=ROOT, env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(self.tmp / "notify"),
                                                             "KEELBACK_TEST_ID": self.test_id})
        try:
            self.assertEqual(b"READY=1", notify.recv(100))
            self.assertEqual("1\n", self.expect(OK, "call", "echo", "[1]", "--url", f"127.0.0.1:{port}")[0])
            process.terminate()
            self.assertEqual(b"STOPPING=1", notify.recv(100))
            _, err = process.communicate(timeout=30 * STRETCH)
            self.assertIn(f"listening on http://127.0.0.1:{port}", err)
            self.assertEqual(0, process.returncode)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
            notify.close()
            listener.close()

    def test_a_stderr_that_nobody_reads_holds_nobody_up(self):
        reader, writer = os.pipe()
        process = subprocess.Popen([KEELBACK, "serve", "model", "--backend", "sim", "--listen", f"unix:{self.tmp}/k.sock", "--set", "log.level=trace"],
                                   stdout=subprocess.DEVNULL, stderr=writer, cwd=ROOT, env={**os.environ, "KEELBACK_TEST_ID": self.test_id})
        os.close(writer)
        try:
            wait_until((self.tmp / "k.sock").exists, "it listens")
            url = ["--url", f"unix:{self.tmp}/k.sock"]
            for _ in range(3000):  # more than a pipe's 64 KiB of log lines
                process.send_signal(signal.SIGHUP)
                time.sleep(0)
            self.assertEqual("1\n", self.expect(OK, "call", "echo", "[1]", *url)[0])
            process.terminate()
            self.assertEqual(0, process.wait(20 * STRETCH))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(reader)


class WithPython(CliTest):
    """What only real workers show."""

    def test_run_shows_what_the_function_prints_on_stderr_and_its_result_on_stdout(self):
        app = self.app("import keelback\n@keelback.function\ndef f():\n    print('hello there')\n    return 1\n"
                       "@keelback.function(stream=True)\ndef g(n):\n    for i in range(n):\n        yield i\n"
                       "@keelback.function\ndef die():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n")
        self.assertEqual(("1\n", "hello there\n"), self.expect(OK, "run", app, "f"))
        out, _ = self.expect(OK, "run", app, "g", "[100]", "--stream")
        self.assertEqual([str(n) for n in range(100)], out.split())
        _, err = self.expect(OUTCOME, "run", app, "die")
        self.assertIn("worker_died, effect maybe", err)
        self.assertIn("signal 9", err)

    def test_run_of_what_cannot_be_loaded_is_a_failed_start(self):
        broken = self.app("import not_there_at_all\n")
        out, err = self.expect(START, "run", broken, "f")
        self.assertEqual("", out)
        self.assertIn("not_there_at_all", err)

    def test_the_second_signal_kills_what_runs(self):
        app = self.app("import keelback, time\n@keelback.function\ndef work():\n    time.sleep(1000)\n")
        daemon = self.serve(app, workers=1)
        thread = threading.Thread(target=lambda: self.run_cli("call", "work", "--url", daemon.address))
        thread.start()
        wait_until(lambda: daemon.pool()["workers"]["busy"] == 1, "the call runs")
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in daemon.log_text(), "it drains")
        self.assertIsNone(daemon.process.poll(), "it waits for the call")
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(128 + signal.SIGTERM, daemon.wait())
        self.assertLess(time.monotonic() - began, 3 * STRETCH)
        thread.join()
        self.daemons.clear()

    def test_reload_serves_new_code_or_says_why_not(self):
        app = self.app("import keelback\n@keelback.function\ndef version():\n    return 1\n")
        daemon = self.serve(app, workers=1)
        url = ["--url", daemon.address]
        app.write_text("import keelback\n@keelback.function\ndef version(:\n")
        self.assertIn("SyntaxError", self.expect(OUTCOME, "reload", *url)[1])
        self.assertEqual("1\n", self.expect(OK, "call", "version", *url)[0])
        app.write_text("import keelback\n@keelback.function\ndef version():\n    return 2\n")
        self.expect(OK, "reload", *url)
        wait_until(lambda: self.expect(OK, "call", "version", *url)[0] == "2\n", "the new code serves")

    def test_a_request_that_kills_is_quarantined_listed_and_released(self):
        app = self.app("import keelback, os\n@keelback.function(idempotent=True)\ndef die():\n    os._exit(3)\n")
        daemon = self.serve(app, workers=1, settings={"calls.retries": "0", "breaker.failures": "0"})
        url = ["--url", daemon.address]
        for _ in range(2):
            self.assertIn("exit code 3", self.expect(OUTCOME, "call", "die", *url)[1])
        self.assertIn("quarantined", self.expect(OUTCOME, "call", "die", *url)[1])
        entry, = self.expect_json(OK, "quarantine", *url)["items"]
        self.assertEqual(("die", 2), (entry["function"], entry["deaths"]))
        self.assertIn(entry["fingerprint"], self.expect(OK, "quarantine", "list", *url)[0])
        self.expect(OK, "quarantine", "release", entry["fingerprint"], *url)
        self.assertIn("exit code 3", self.expect(OUTCOME, "call", "die", *url)[1])

    def test_workers_do_not_inherit_the_servers_secrets(self):
        app = self.app("import keelback, os\n@keelback.function\ndef secrets():\n    return [n for n in os.environ if 'KEELBACK' in n and ('TOKEN' in n or 'STORE' in n)]\n")
        daemon = self.serve(app, workers=1, env={"KEELBACK_SERVER_TOKEN": "hunter2", "KEELBACK_TOKEN": "hunter2", "KEELBACK_CLUSTER_TOKEN": "hunter3"}, wait="listening")
        self.assertEqual("[]\n", self.expect(OK, "call", "secrets", "--url", daemon.address, "--token", "hunter2")[0])


if __name__ == "__main__":
    main()
