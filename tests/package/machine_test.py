"""The packages of scripts/package, installed and used in bare Debian machines.

    machine_test.py DIST STORE

DIST holds the packages, revision 1 and 2 of the Debian ones; STORE is a folder that keeps a bare machine for the next time. Times are printed, not
judged. Needs root and debootstrap, and the network for what the packages depend on; skipped without.
"""
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import yaml

MACHINE = os.environ.get("PATH", "")  # before the tests' own
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "support")]
import bare_machine  # noqa: E402
from bare_machine import BareMachine, Manager, Unit  # noqa: E402
from keelback_testing import KEELBACK, ROOT, wait_until  # noqa: E402

DIST, STORE = (Path(argument).resolve() for argument in sys.argv[1:3])
HERE = Path(__file__).resolve().parent
# On a busy machine the service is late, or the load generator itself.
WORKER_KILL = r"(PASS|LIVENESS|INCONCLUSIVE)  worker-kill on python(.|\n)*proc.kill: bit"
PACKAGING = ROOT / "packaging"

LEDGER = '''
import keelback

@keelback.function
def note(number: int) -> int:
    """Each number that it was called with is a line of the ledger."""
    with open("/var/lib/keelback/ledger", "a") as ledger:
        ledger.write(f"{number}\\n")
    return number

@keelback.function
def count() -> int:
    state = keelback.session().state
    state["count"] = state.get("count", 0) + 1
    return state["count"]
'''
WHERE = '''
import sys
import keelback

@keelback.function
def where() -> list:
    return [keelback.__file__, sys.executable]
'''
TYPED = '''
import keelback

@keelback.function
def greet(name: str) -> str:
    return f"Hello, {name}!"

@keelback.function(idempotent=True, timeout=2)
async def later(number: int) -> int:
    return number

reveal_type(greet)
reveal_type(later)
reveal_type(keelback.session())
'''


def deb(name, revision=1):
    found = sorted(DIST.glob(f"{name}_*-{revision}_*.deb"))
    assert len(found) == 1, f"{name}, revision {revision}: {found}"
    return found[0]


def wheel():
    found = sorted(DIST.glob("keelback-*.whl"))
    assert len(found) == 1, found
    return found[0]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def post(function, arguments, session=None, unix=None):
    """(status, document) of one call over a connection of its own, to the port or to a Unix socket."""
    connection = UnixConnection(unix, 60) if unix else http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
    try:
        headers = {"Content-Type": "application/json"}
        if session is not None:
            headers["Keelback-Session"] = session
        connection.request("POST", f"/v1/call/{function}", json.dumps(arguments), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def needs():
    """What the packages depend on and an environment takes, without them."""
    needed = {"python3-venv", "systemd"}
    for package in (deb("keelback"), deb("keelback-lab"), deb("libkeelback-dev")):
        told = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True).stdout
        needed.update(re.split(r"[ :]", part.strip())[0] for part in told.split(",") if "keelback" not in part)
    return sorted(needed)


class Machine(unittest.TestCase):
    """A machine for each test, with what our packages need unless the test is BARE."""

    BARE = ()

    def setUp(self):
        self.machine = BareMachine(STORE, needs=() if self._testMethodName in self.BARE else needs())
        self.addCleanup(self.machine.remove)
        self.unit = Unit(self.machine)
        self.addCleanup(self.unit.kill)
        self.assertEqual("", self.sh("command -v gcc g++ cc c++ clang make", status=None), "no compiler is on it")

    def sh(self, line, **options):
        return self.machine.sh(line, **options)

    def install(self, *packages):
        names = [self.machine.copy_in(package) for package in packages]
        self.sh(f"apt-get install -y -q --no-install-recommends {' '.join(names)}", online=True)

    def say(self, text):
        print(f"    {self.id().rsplit('.', 1)[1]}: {text}", flush=True)


class DebTest(Machine):
    BARE = ("test_it_is_installed_and_serves",)

    # Goal: from the package to the first answer it takes less than a minute, without a compiler.
    def test_it_is_installed_and_serves(self):
        began = time.monotonic()
        self.install(deb("keelback"))
        installed = time.monotonic()
        self.unit.start()
        answer = self.sh("keelback call greet '{\"name\":\"Ada\"}'")
        ended = time.monotonic()
        self.assertEqual('"Hello, Ada!"\n', answer)
        self.say(f"{installed - began:.1f} s to install with all it needs, {ended - installed:.1f} s to start the unit and call")
        # Everybody may use the socket that the unit makes.
        self.assertEqual('"Hello, Bob!"\n', self.sh("setpriv --reuid=65534 --clear-groups keelback call -u unix:/run/keelback/keelback.sock "
                                                    "greet '{\"name\":\"Bob\"}'"))
        self.sh("keelback doctor")
        self.assertEqual(0, self.unit.stop())

    def test_a_reload_reads_the_settings_again(self):
        self.install(deb("keelback"))
        self.unit.start()
        self.sh("sed -i 's/^workers = 2/workers = 3/' /etc/keelback/keelback.toml")
        self.unit.reload()
        wait_until(lambda: self.sh("keelback config get pool.workers --json").count('"value":3'), self.unit.text)
        self.assertEqual(0, self.unit.stop())

    # Goal: the token is a file that only root can read, and no setting or variable holds it.
    def test_the_token_comes_as_a_credential(self):
        self.install(deb("keelback"))
        self.sh("umask 077; echo hunter2 >/etc/keelback/token")
        self.unit.start()
        self.assertIn("send the token of server.token", self.sh("keelback call greet '{\"name\":\"Ada\"}'", status=None))
        self.assertEqual('"Hello, Ada!"\n', self.sh("keelback call greet '{\"name\":\"Ada\"}'", KEELBACK_TOKEN="hunter2"))
        self.assertEqual(0, self.unit.stop())

    # Goal: systemd finds nothing wrong with the unit, and what its processes may do is little.
    def test_the_unit_is_sound_and_closed(self):
        self.install(deb("keelback"))
        self.assertEqual("", self.sh("systemd-analyze verify keelback.service keelback.socket"))
        told = self.sh("systemd-analyze security --offline=true --no-pager keelback.service")
        exposure = float(re.search(r"Overall exposure level for keelback\.service: ([0-9.]+)", told)[1])
        self.assertLessEqual(exposure, 4.0, told)
        self.say(f"exposure {exposure}")

    # Goal: after remove and purge there are the user's files and nothing of ours.
    def test_nothing_is_left_of_it(self):
        packages = [deb("keelback"), deb("keelback-lab"), deb("libkeelback-dev")]
        before = self.machine.files()
        self.install(*packages)
        # Root uses it, so that Python may write beside the files; the service keeps sessions.
        self.sh("keelback run /usr/share/keelback/examples/hello.py greet '{\"name\":\"Ada\"}'")
        self.sh("python3 -c 'import sys; sys.path.append(\"/usr/share/keelback/python\"); import keelback.worker'")
        (self.machine.root / "srv/app.py").write_text(LEDGER)
        self.sh("sed -i s,^APP=.*,APP=/srv/app.py, /etc/default/keelback")
        self.unit.start()
        self.sh("keelback call count --session ann")
        self.assertEqual(0, self.unit.stop())
        self.sh("deb-systemd-helper enable keelback.service", DPKG_MAINTSCRIPT_PACKAGE="keelback")

        self.sh("apt-get remove -y -q keelback-lab libkeelback-dev keelback")
        left = {path for path in self.machine.files() - before if not path.startswith(("srv/", "var/lib/dpkg/info/"))}
        kept = {path for path in left if path.startswith(("etc/", "var/lib/"))}
        self.assertEqual(set(), left - kept, "a removed package keeps its settings and its state only")
        self.assertIn("etc/keelback/keelback.toml", kept)
        self.sh("apt-get purge -y -q keelback")
        self.assertEqual({"srv/app.py"}, self.machine.files() - before)
        self.assertEqual(set(), before - self.machine.files(), "and takes nothing else away")

    def test_the_laboratory_works(self):
        self.install(deb("keelback"), deb("keelback-lab"))
        told = self.sh("keelback chaos run worker-kill --app /usr/share/keelback/examples/counter.py --level light --out /tmp/out || [ $? = 2 ] || [ $? = 7 ]")
        self.assertRegex(told, WORKER_KILL)

    def test_a_program_is_built_with_the_library(self):
        self.install(deb("keelback"), deb("libkeelback-dev"))
        self.sh("apt-get install -y -q --no-install-recommends g++ pkg-config cmake make", online=True)
        for name in ("main.cpp", "CMakeLists.txt"):
            self.machine.copy_in(HERE / "consumer" / name, "/root/consumer")
        (self.machine.root / "root/app.py").write_text("import keelback\n\n@keelback.function\ndef echo(value):\n    return value\n")
        self.sh("g++ consumer/main.cpp -o by-pkg-config $(pkg-config --cflags --libs keelback)")
        self.assertEqual('"installed"\n', self.sh("./by-pkg-config app.py python"))
        self.sh("cmake -S consumer -B build && cmake --build build")
        self.assertEqual('"installed"\n', self.sh("build/consumer app.py python"))


class Load:
    """Clients with a session each, which call again after a 503 and after what `patience` names, until they are stopped. Each second one uses the
    Unix socket, if there is one."""

    def __init__(self, patience=(), unix=None):
        self.patience, self.unix = patience, unix
        self.answered, self.counts, self.wrong, self.again, self.broken = [], {}, [], 0, 0
        self._numbers, self._lock, self._over = iter(range(10**9)), threading.Lock(), threading.Event()
        self._clients = [threading.Thread(target=self._client, args=(number,)) for number in range(4)]

    def _call(self, function, arguments, session=None, unix=None):
        while True:
            try:
                status, document = post(function, arguments, session, unix)
            except self.patience as error:
                self.broken += not isinstance(error, ConnectionRefusedError)
                status = 503
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"{function}{arguments}, {session}, {unix}: {error!r}")
                return None
            if status == 200:
                return document
            if status != 503:
                self.wrong.append(f"{function}{arguments}: {status} {document}")
                return None
            self.again += 1
            time.sleep(0.01)  # what a client does between two tries

    def _client(self, own):
        unix = self.unix if own % 2 else None
        while not self._over.is_set():
            with self._lock:
                number = next(self._numbers)
            if self._call("note", [number], None, unix) == number:
                self.answered.append(number)
            self.counts.setdefault(f"session-{own}", []).append(self._call("count", [], f"session-{own}", unix))

    def more(self, text):
        """Comes back when the clients have had many answers more."""
        before = len(self.answered)
        wait_until(lambda: len(self.answered) > before + 200, lambda: f"{self.wrong[:3]}\n{text()}")

    def __enter__(self):
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        for client in self._clients:
            client.join()

    def check(self, test, ledger):
        """No call was lost or ran twice, and no session forgot."""
        test.assertEqual([], self.wrong)
        test.assertEqual(sorted(self.answered), sorted(map(int, ledger.read_text().split())), "each call ran once")
        for session, told in self.counts.items():
            test.assertEqual(list(range(1, len(told) + 1)), told, session)


class ReaderTest(Machine):
    # Goal: who has installed the packages types the front page and the tutorial as they stand, and sees what they show.
    def test_a_reader_reaches_the_end(self):
        self.install(deb("keelback"), deb("keelback-lab"))
        self.sh("apt-get install -y -q --no-install-recommends curl", online=True)  # the tutorial asks for it
        for folder in ("docs", "examples", "tests/package", "tests/support"):
            shutil.copytree(ROOT / folder, self.machine.root / "root/checkout" / folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.machine.copy_in(ROOT / "README.md", "/root/checkout")
        told = self.sh("python3 checkout/tests/package/reader_test.py")
        self.assertIn("Ran 2 tests", told)


class UpgradeTest(Machine):
    # Goal: stop, install, start, as systemctl and dpkg do it, under load. A client that comes again after 503, and after a connection that was
    # refused or broke without an answer, has an answer to each call, each call ran once, and sessions count on.
    def test_no_call_is_lost_and_sessions_go_on(self):
        self.install(deb("keelback"))
        self.machine.copy_in(deb("keelback", 2))
        (self.machine.root / "srv/app.py").write_text(LEDGER)
        self.sh("sed -i s,^APP=.*,APP=/srv/app.py, /etc/default/keelback")
        self.unit.start()
        # Broken or reset: it waited to be accepted when the daemon ended.
        with Load(patience=(ConnectionRefusedError, BrokenPipeError, ConnectionResetError)) as load:
            load.more(self.unit.text)
            began = time.monotonic()
            self.assertEqual(0, self.unit.stop(), "systemctl stop")
            self.sh(f"dpkg -i {deb('keelback', 2).name}")
            self.unit.start()
            away = time.monotonic() - began
            load.more(self.unit.text)
        self.assertIn("-2", self.sh("dpkg-query -W -f '${Version}' keelback"))
        load.check(self, self.machine.root / "var/lib/keelback/ledger")
        self.assertGreater(load.again, 0, "the clients met the upgrade")
        self.say(f"{len(load.answered)} calls and {len(load.counts)} sessions over an upgrade of {away:.1f} s, {load.again} tries again, "
                 f"{load.broken} of them after a broken connection")
        self.assertEqual(0, self.unit.stop())


class SystemdTest(Machine):
    """The same with a real systemd: what the unit says of users, credentials, sandbox and sockets is done by it."""

    def setUp(self):
        why = bare_machine.why_no_manager()
        if why is not None:
            self.skipTest(why)
        super().setUp()
        (self.machine.root / "usr/sbin/policy-rc.d").unlink()  # here services are started
        self.manager = Manager(self.machine)
        self.addCleanup(self.manager.end)
        self.do = self.manager.sh
        for revision in (1, 2):
            self.machine.copy_in(deb("keelback", revision))
        (self.machine.root / "srv/app.py").write_text(LEDGER)
        self.do(f"dpkg -i {deb('keelback').name} && sed -i s,^APP=.*,APP=/srv/app.py, /etc/default/keelback")

    def main_pid(self):
        return int(self.do("systemctl show -P MainPID keelback"))

    def call(self, status=0, **environment):
        return self.do("keelback call note '[1]'", status=status, **environment)

    # Goal: nothing runs before somebody wants it. The service starts in its sandbox, as a user of its own, and ends as it should.
    def test_the_unit_serves_in_its_sandbox(self):
        self.assertEqual("disabled\ndisabled\n", self.do("systemctl is-enabled keelback.service keelback.socket", status=None))
        self.assertEqual("inactive\ninactive\n", self.do("systemctl is-active keelback.service keelback.socket", status=None))
        self.do("systemctl start keelback")
        self.assertEqual("1\n", self.call())
        status = dict(line.split(":", 1) for line in self.do(f"cat /proc/{self.main_pid()}/status").splitlines())
        self.assertEqual("1", status["NoNewPrivs"].strip())
        self.assertEqual({"0" * 16}, {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")})
        self.assertNotIn("0", status["Uid"].split())
        self.assertEqual("2", status["Seccomp"].strip())
        self.do("sed -i 's/^workers = 2/workers = 3/' /etc/keelback/keelback.toml && systemctl reload keelback")
        wait_until(lambda: self.do("keelback config get pool.workers --json").count('"value":3'), self.manager.text)
        self.do("systemctl stop keelback")
        self.assertEqual("success\n", self.do("systemctl show -P Result keelback"))
        self.say(re.search(r"Overall exposure level.*", self.do("systemd-analyze security --no-pager keelback"))[0])

    # Goal: systemd reads a file that only root can read, and the daemon has the token from it. No variable and no command line holds it.
    def test_the_token_comes_as_a_credential(self):
        self.do("umask 077; echo hunter2 >/etc/keelback/token; systemctl start keelback")
        self.assertIn("send the token of server.token", self.call(status=None))
        self.assertEqual("1\n", self.call(KEELBACK_TOKEN="hunter2"))
        self.assertEqual("600 root\n", self.do("stat -c '%a %U' /etc/keelback/token"))
        told = self.do("for pid in $(cat /sys/fs/cgroup/system.slice/keelback.service/cgroup.procs); do cat /proc/$pid/environ /proc/$pid/cmdline; done | "
                       "tr '\\0' '\\n'")
        self.assertIn("/usr/libexec/keelback/keelback-guard", told)
        self.assertNotIn("hunter2", told + self.do("systemctl show keelback"))
        self.do("rm /etc/keelback/token && systemctl restart keelback")
        self.assertEqual("1\n", self.call())

    # Goal: with keelback.socket nobody is refused, whatever happens to the service. Clients that come again after a 503 and after nothing else lose no
    # call over restarts and an upgrade, and no daemon runs while the package's files change.
    def test_clients_of_the_socket_wait_for_a_restart_and_an_upgrade(self):
        self.do("systemctl enable --now keelback.socket keelback.service")
        with Load(unix=self.machine.root / "run/keelback.sock") as load:
            load.more(self.manager.text)
            for _ in range(3):
                self.do("systemctl restart keelback")
                load.more(self.manager.text)
            began = time.monotonic()
            self.do(f"dpkg -i {deb('keelback', 2).name}")
            away = time.monotonic() - began
            load.more(self.manager.text)
        self.assertIn("-2", self.do("dpkg-query -W -f '${Version}' keelback"))
        self.assertEqual("/usr/bin/keelback\n", self.do(f"readlink /proc/{self.main_pid()}/exe"), "the new program runs")
        load.check(self, self.machine.root / "var/lib/private/keelback/ledger")
        self.say(f"{len(load.answered)} calls over three restarts and an upgrade of {away:.1f} s, {load.again} of them again after a 503")

    # Goal: a client starts the service that is not there; removing the package ends socket and service.
    def test_the_socket_starts_the_service_and_goes_with_the_package(self):
        self.do("systemctl enable --now keelback.socket")
        self.assertEqual("inactive\n", self.do("systemctl is-active keelback.service", status=None))
        self.assertEqual("1\n", self.call())
        wait_until(lambda: self.do("systemctl is-active keelback.service", status=None) == "active\n", self.manager.text)
        pid = self.main_pid()
        self.do("apt-get remove -y -q keelback")
        self.assertEqual("gone\n", self.do(f"test -e /proc/{pid} || echo gone"))
        self.assertFalse((self.machine.root / "run/keelback.sock").exists())
        with self.assertRaises(ConnectionRefusedError):
            post("note", [1])


class WheelTest(Machine):
    BARE = ("test_it_is_installed_and_serves",)  # it must bring its libraries itself

    def setUp(self):
        super().setUp()
        self.sh("apt-get install -y -q --no-install-recommends python3-venv", online=True)
        self.name = self.machine.copy_in(wheel())
        (self.machine.root / "root/app.py").write_text(WHERE)

    # Goal: from the wheel to the first answer in an environment of its own, without a compiler and without anything from a registry.
    def test_it_is_installed_and_serves(self):
        began = time.monotonic()
        self.sh(f"python3 -m venv venv && venv/bin/pip install -q --no-index {self.name}")
        installed = time.monotonic()
        runtime, python = json.loads(self.sh("venv/bin/keelback run app.py where"))
        ran = time.monotonic()
        self.assertEqual("/root/venv/bin/python3", python, "the environment's Python, though nobody activated it")
        self.assertTrue(runtime.startswith("/root/venv/lib/"), runtime)
        self.say(f"{installed - began:.1f} s to install, {ran - installed:.1f} s to run a function")
        served = subprocess.Popen(self.machine.command(["/root/venv/bin/keelback", "serve", "/root/app.py"]), env=self.machine.environment(),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(served.stdout.close)
        try:
            wait_until(lambda: "listening on" in served.stdout.readline(), "it listens")
            wait_until(lambda: self.sh("venv/bin/keelback status", status=None).count("ready"), "it is ready")
            self.assertEqual([runtime, python], json.loads(self.sh("venv/bin/keelback call where")))
        finally:
            served.terminate()
            self.assertEqual(0, served.wait(60))
        # Tests and editors import the same version from the environment.
        self.assertEqual("ok\n", self.sh("venv/bin/python -c 'import app, keelback; assert \"/site-packages/keelback/\" in keelback.__file__; "
                                         "app.where(); print(\"ok\")'"))
        self.sh("venv/bin/keelback doctor && venv/bin/pip check")

    def test_the_laboratory_comes_along(self):
        self.sh(f"python3 -m venv venv && venv/bin/pip install -q --no-index {self.name}")
        self.machine.copy_in(ROOT / "examples/counter.py")
        self.assertRegex(self.sh("venv/bin/keelback chaos run worker-kill --app counter.py --level light --out out || [ $? = 2 ] || [ $? = 7 ]"), WORKER_KILL)

    def test_nothing_is_left_of_it(self):
        self.sh("python3 -m venv venv")

        def names():
            return {path for path in self.sh("find venv").split("\n") if "/pip" not in path}

        before = names()
        self.sh(f"venv/bin/pip install -q --no-index {self.name} && venv/bin/keelback run app.py where")
        self.sh("venv/bin/pip uninstall -q -y keelback")
        self.assertEqual(before, names())

    # Goal: a daemon brings its own runtime. What the environment of the application has, another version too, is for tests and editors.
    def test_the_runtime_of_the_daemon_wins_over_the_environments(self):
        self.install(deb("keelback"))
        self.sh(f"python3 -m venv venv && venv/bin/pip install -q --no-index {self.name}")
        self.sh("echo 'raise ImportError(\"another version\")' >>venv/lib/python3*/site-packages/keelback/__init__.py")
        self.sh("sed -i 's/^Version: .*/Version: 9.9.9/' venv/lib/python3*/site-packages/keelback-*.dist-info/METADATA")
        for mode in ("auto", "off"):
            told = self.sh(f"keelback run app.py where --set workers.python=venv/bin/python --set workers.zygote={mode}")
            self.assertEqual(["/usr/share/keelback/python/keelback/__init__.py", "/root/venv/bin/python"], json.loads(told))
        told = self.sh("keelback doctor --set workers.python=venv/bin/python", status=None)
        self.assertRegex(told, r"warn +package +the environment has keelback 9\.9\.9")


def pythons():
    """{version: interpreter} of this machine that can make an environment and are new enough: Debian's, those in PATH and those of pyenv."""
    folders = [Path(folder) for folder in ["/usr/bin", *MACHINE.split(os.pathsep)] if folder]
    folders += sorted(PYENV.glob("versions/*/bin"))
    found = {}
    for python in (file for folder in folders for file in folder.glob("python3.*") if re.fullmatch(r"python3\.\d+", file.name)):
        done = subprocess.run([python, "-c", "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:2])))"], capture_output=True, text=True)
        if done.returncode == 0 and tuple(map(int, done.stdout.split("."))) >= (3, 9):
            found.setdefault(done.stdout.strip(), python)
    return found


class PythonsTest(unittest.TestCase):
    """The wheel in environments of this machine's interpreters. A machine with one of them tries one."""

    def setUp(self):
        self.here = Path(tempfile.mkdtemp(prefix="keelback-pythons-"))
        self.addCleanup(shutil.rmtree, self.here, ignore_errors=True)
        (self.here / "app.py").write_text(WHERE)

    def says(self, *command):
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MYPYPATH")}
        done = subprocess.run(command, cwd=self.here, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        self.assertEqual(0, done.returncode, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def install(self, python, name):
        self.says(python, "-m", "venv", name)
        self.says(self.here / name / "bin/pip", "install", "-q", "--no-index", wheel())
        return self.here / name / "bin"

    # Goal: in an environment of each Python a test or an editor imports the application, and its functions are called without a server and with one.
    def test_it_works_with_every_python(self):
        found = pythons()
        self.assertTrue(found, "no python3 here can make an environment")
        for version, python in found.items():
            with self.subTest(version):
                programs = self.install(python, version)
                site = self.here / version / f"lib/python{version}/site-packages"
                # A warning of the compiler is an error of the next version.
                self.says(programs / "python", "-W", "error", "-m", "compileall", "-q", "-f", site / "keelback", site / "keelback_programs")
                runtime = self.says(programs / "python", "-W", "error", "-c", "import app; print(app.where()[0])")
                self.assertEqual(f"{site}/keelback/__init__.py\n", runtime)
                told = json.loads(self.says(programs / "keelback", "run", "app.py", "where"))
                self.assertEqual(str(programs / "python3"), told[1])
        print(f"    Python {', '.join(sorted(found, key=lambda version: int(version[2:])))}", flush=True)

    # Goal: what an editor shows of a function of the application is what its author wrote.
    def test_types_are_seen(self):
        programs = self.install(sys.executable, "typed")
        (self.here / "app.py").write_text(TYPED)
        told = self.says(sys.executable, "-m", "mypy", "--strict", "--cache-dir=/dev/null", "--python-executable", programs / "python", "app.py")
        self.assertIn('Revealed type is "def (name: str) -> str"', told)
        self.assertIn('Revealed type is "def (number: int) -> typing.Coroutine[Any, Any, int]"', told)
        self.assertIn('Revealed type is "keelback.sessions.Session"', told)


class ManifestTest(unittest.TestCase):
    # Goal: what Kubernetes is given is of its schema, and nothing in it is misspelt.
    def test_the_manifests_are_of_the_schema(self):
        validate = shutil.which("kubernetes-validate", path=str(Path(sys.executable).parent))
        self.assertIsNotNone(validate, "scripts/venv package")
        done = subprocess.run([validate, "--strict", str(PACKAGING / "kubernetes/keelback.yaml")], capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        for page in sorted((PACKAGING / "kubernetes").glob("*.yaml")):
            with self.subTest(page.name):
                self.assertTrue(list(yaml.safe_load_all(page.read_text())))

    # Goal: the settings in the manifest and in the package are settings.
    def test_the_settings_in_them_are_known(self):
        for document in yaml.safe_load_all((PACKAGING / "kubernetes/keelback.yaml").read_text()):
            if document["kind"] == "ConfigMap":
                self.check(document["data"]["keelback.toml"])
        self.check((PACKAGING / "debian/keelback.toml").read_text())

    def check(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([KEELBACK, "config", "check", "--config", file.name], capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)


def main():
    why = bare_machine.why_not()
    if why is None:
        bare_machine.step_aside()
    else:
        print(f"the bare machines are skipped: {why}")
        for case in (DebTest, ReaderTest, UpgradeTest, SystemdTest, WheelTest):
            unittest.skip(why)(case)
    sys.argv[1:3] = []
    result = unittest.main(verbosity=2, exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed, {len(result.skipped)} skipped")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
