"""An application starts, and starts again, whatever happens to the directories around it; a reload serves what its files hold."""

import os
import shutil
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, main, wait_until  # noqa: E402

MODES = ("auto", "off")
VERSION = """
import os
import keelback

@keelback.function
def version() -> list:
    return [{version}, os.readlink("/proc/self/cwd")]
"""


class _Starts(KeelbackTest):
    def folder(self, name):
        path = self.tmp / name
        path.mkdir(parents=True)
        return path

    def kill_zygote(self, daemon):
        pid = daemon.pool()["start"]["zygote_pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: daemon.pool()["start"]["zygote_pid"] not in (0, pid), lambda: f"there is another zygote; log: {daemon.log_text()}")

    def kill_worker(self, daemon):
        wait_until(lambda: [worker["state"] for worker in daemon.workers()] == ["ready"], "there is one worker, and none of old code")
        daemon.wait_replaced(daemon.kill_worker())

    def answer(self, daemon):
        reply = daemon.client().call("version")
        self.assertEqual("ok", reply.outcome, f"{reply}; log: {daemon.log_text()}")
        return reply.json


class Names(_Starts):
    def test_files_of_the_working_directory_do_not_break_a_start(self):
        app = self.app(VERSION.format(version=1))
        for name in ("json.py", "random.py", "select.py", "socket.py", "signal.py", "keelback.py", "keelback/__init__.py"):
            for mode in MODES:
                with self.subTest(name=name, mode=mode):
                    work = self.folder(f"work-{mode}-{name.replace('/', '-')}")
                    (work / name).parent.mkdir(exist_ok=True)
                    (work / name).write_text("raise ImportError('not this one')\n")
                    daemon = self.serve(app, workers=1, cwd=work, settings={"workers.zygote": mode})
                    self.assertEqual([1, str(work)], self.answer(daemon))
                    daemon.stop()


class Directories(_Starts):
    def test_processes_are_replaced_when_the_working_directory_is_gone(self):
        home = self.folder("home")
        (home / "app.py").write_text(VERSION.format(version=1))
        for mode in MODES:
            with self.subTest(mode=mode):
                work = self.folder(f"work-{mode}")
                daemon = self.serve(home / "app.py", workers=1, cwd=work, settings={"workers.zygote": mode})
                self.assertEqual([1, str(work)], self.answer(daemon))
                work.rmdir()
                if mode == "auto":
                    self.kill_zygote(daemon)
                self.kill_worker(daemon)
                self.assertEqual([1, str(home)], self.answer(daemon), "it starts where the application is")
                self.assertIn(f"the working directory {work} is gone; new processes start in {home}", daemon.log_text())
                work.mkdir()
                if mode == "auto":
                    self.kill_zygote(daemon)
                self.kill_worker(daemon)
                self.assertEqual([1, str(work)], self.answer(daemon), "it is there again")
                work.rmdir()
                self.assertEqual(200, daemon.client().request("POST", "/v1/reload").status)
                wait_until(lambda d=daemon: self.answer(d) == [1, str(home)], "a reload starts there, too")
                daemon.stop()

    def test_a_relative_application_whose_directory_is_gone_says_so(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                work = self.folder(f"work-{mode}")
                (work / "app.py").write_text(VERSION.format(version=1))
                daemon = self.serve("app.py", workers=1, cwd=work, settings={"workers.zygote": mode})
                shutil.rmtree(work)
                if mode == "auto":
                    os.kill(daemon.pool()["start"]["zygote_pid"], signal.SIGKILL)
                daemon.kill_worker()
                wait_until(lambda d=daemon, w=work: f"the working directory {w} is gone" in d.client().get("/readyz").body.decode(),
                           lambda d=daemon: f"the reason is the right one; log: {d.log_text()}")
                daemon.stop()

    def test_a_release_is_replaced_behind_a_symbolic_link(self):
        current = self.tmp / "current"
        for mode in MODES:
            with self.subTest(mode=mode):
                releases = [self.folder(f"{mode}/{number}") for number in (1, 2)]
                for number, release in enumerate(releases, 1):
                    (release / "app.py").write_text(VERSION.format(version=number))
                current.symlink_to(releases[0])
                daemon = self.serve(current / "app.py", workers=1, cwd=current, settings={"workers.zygote": mode})
                self.assertEqual([1, str(releases[0])], self.answer(daemon))
                current.unlink()
                current.symlink_to(releases[1])
                self.assertEqual(200, daemon.client().request("POST", "/v1/reload").status)
                wait_until(lambda d=daemon: self.answer(d)[0] == 2, "the new code is served")
                shutil.rmtree(releases[0])
                if mode == "auto":
                    self.kill_zygote(daemon)
                self.kill_worker(daemon)
                self.assertEqual([2, str(releases[1])], self.answer(daemon))
                daemon.stop()
                current.unlink()


class NewCode(_Starts):
    # What a machine happens to export changes nothing.
    ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": None}

    def test_edits_within_a_second_that_keep_the_size_are_served(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                home = self.folder(mode)

                def write(version, home=home):
                    for name, text in (("app.py", VERSION.replace("{version}", "{version}, beside.V").replace("import os", "import beside\nimport os")),
                                       ("beside.py", "V = {version}\n")):
                        (home / name).write_text(text.format(version=version))
                        os.utime(home / name, (1_000_000_000, 1_000_000_000))

                write(1)
                daemon = self.serve(home / "app.py", workers=1, env=self.ENVIRONMENT, settings={"workers.zygote": mode})
                for version in range(2, 6):
                    write(version)
                    self.assertEqual(200, daemon.client().request("POST", "/v1/reload").status)
                    wait_until(lambda d=daemon, v=version: self.answer(d)[:2] == [v, v], "the new code is served, and nothing else")
                self.assertTrue((home / "__pycache__").is_dir())
                daemon.stop()


PORT = """
import os, socket
import keelback

server = socket.create_server(("127.0.0.1", int(os.environ["TEST_PORT"])))

@keelback.function
def port() -> int:
    return server.getsockname()[1]
"""


class Ports(_Starts):
    def test_a_port_opened_at_import_is_named_with_its_line(self):
        app = self.app(PORT)
        for mode in MODES:
            with self.subTest(mode=mode), socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
                free.close()
                daemon = self.serve(app, workers=2, env={"TEST_PORT": str(port)}, settings={"workers.zygote": mode})
                self.assertEqual(port, daemon.client().call("port").json, "one worker has it, and serves")
                words = f", at {app}:5. Each worker imports the application"
                wait_until(lambda d=daemon, w=words: w in d.log_text(), lambda d=daemon: f"the log names the line: {d.log_text()}")

                def told(daemon=daemon, words=words):
                    health = daemon.client().get("/readyz")
                    degraded = "".join(health.json.get("degraded", []))
                    return health.status == 200 and words in degraded and "1 of 2 workers serve" in degraded

                wait_until(told, "/readyz says why the other worker does not start")
                daemon.stop()


if __name__ == "__main__":
    main()
