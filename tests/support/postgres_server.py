"""A PostgreSQL of the test's own, and a pgbouncer in front of it that pools by transaction.

    with PostgresServer() as server:          # or: python3 tests/support/postgres_server.py
        server.url(), server.pooled_url()     # postgres://keelback:…@127.0.0.1:PORT/keelback
        server.restart(); server.kill(); server.start(); server.pause(); server.resume()

It lives in a temporary directory, needs no /dev/shm, listens on a free port of the loopback, and knows nothing of the machine's own clusters. Neither server runs as
root: if this does, they run as the user of Debian's package, `postgres`. As a program it reads one command a line (start, stop, restart, kill, pause,
resume, create NAME, setting NAME VALUE, query NAME SQL, hold NAME SQL, let_go, urls NAME) and answers each with one line of JSON; when its input ends, everything ends. Standard library only.
"""
import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

USER = "keelback"
PASSWORD = "pass-word-of-tests"
ACCOUNT = "postgres"  # whose processes the servers are if we are root
STRETCH = 4.0 if os.environ.get("KEELBACK_TIMEOUTS") == "extended" else 1.0


class Missing(Exception):
    """What a test is skipped with."""


def programs():
    """The directory of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    raise Missing("PostgreSQL is not installed (apt-get install postgresql)")


def pgbouncer():
    program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise Missing("pgbouncer is not installed (apt-get install pgbouncer)")
    return program


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until(condition, what, timeout=60.0):
    end = time.monotonic() + timeout * STRETCH
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout * STRETCH:.0f} s: {what() if callable(what) else what}")
        time.sleep(0.005)
    return value


def _stat(pid):
    """/proc/PID/stat behind the command: [0] state, [1] parent; None: there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _children(parent):
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and (stat := _stat(entry)) and int(stat[1]) == parent]


def _signal(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class PostgresServer:
    """`settings` are lines of postgresql.conf. Its default is fsync = off: a test kills the server, not the machine, and what was written stays."""

    def __init__(self, settings=None, pooled=True, directory=None):
        self._bin = programs()
        self._bouncer_program = pgbouncer() if pooled else None
        self._settings = dict(settings or {})
        self._postmaster = self._bouncer = self._holder = None
        self._paused = []
        self._root = os.getuid() == 0
        # Both servers' account must be able to enter, whatever TMPDIR is.
        self._home = Path(tempfile.mkdtemp(prefix="keelback-postgres-", dir=directory or ("/tmp" if self._root else None)))
        self.data, self.log = self._home / "data", self._home / "log"
        self.port = free_port()
        try:
            if self._root:
                shutil.chown(self._home, ACCOUNT, ACCOUNT)
            self._make()
            self.start()
            self._psql("postgres", f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}' CREATEDB;")
            self.create("keelback")
            if pooled:
                self._start_bouncer()
        except BaseException:
            self.close()
            raise

    # ---- who asks

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def url(self, database="keelback"):
        return f"postgres://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def pooled_url(self, database="keelback"):
        return f"postgres://{USER}:{PASSWORD}@127.0.0.1:{self.bouncer_port}/{database}"

    def create(self, database):
        self._psql("postgres", f'CREATE DATABASE "{database}" OWNER {USER};')

    def query(self, sql, database="keelback"):
        """What psql prints, without headings: one line a row, `|` between columns. As the owner of the server."""
        return self._psql(database, sql)

    def hold(self, sql, database="keelback"):
        """Begins a transaction with this statement, and leaves it open until let_go()."""
        self._holder = subprocess.Popen(self._as_account(self._psql_command(database)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, cwd=self._home, env=self._environment())
        self._holder.stdin.write(f"BEGIN;\n{sql};\n\\echo held\n")
        self._holder.stdin.flush()
        told = []
        while (line := self._holder.stdout.readline()) and line != "held\n":
            told.append(line)
        if not line:
            raise AssertionError(f"psql: {''.join(told)}")

    def let_go(self):
        self._holder.communicate("ROLLBACK;\n", timeout=60 * STRETCH)
        self._holder = None

    def start(self):
        """Returns when it takes connections. After kill() it recovers first."""
        assert self._postmaster is None
        self._postmaster = self._spawn([self._bin / "postgres", "-D", self.data])
        wait_until(self._answers, lambda: "PostgreSQL takes connections\n" + self._tail())

    def stop(self):
        """A clean end that breaks the connections."""
        self.resume()
        if self._postmaster:
            self._postmaster.send_signal(signal.SIGINT)
            self._postmaster.wait(60 * STRETCH)
            self._postmaster = None

    def restart(self):
        self.stop()
        self.start()

    def kill(self):
        """SIGKILL for all its processes at once. start() brings it back."""
        pids = self._pids()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self._paused = []
        self._postmaster.wait()
        self._postmaster = None
        wait_until(lambda: not any(self._is_ours(pid) for pid in pids), "the killed processes are gone")

    def pause(self):
        """SIGSTOP for all its processes: it accepts bytes and does nothing."""
        _signal(self._postmaster.pid, signal.SIGSTOP)  # from now on it starts none
        wait_until(lambda: (_stat(self._postmaster.pid) or "?")[0] == "T", "the postmaster stands still")
        self._paused = self._pids()
        for pid in self._paused:
            _signal(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self._paused:
            _signal(pid, signal.SIGCONT)
        self._paused = []

    def setting(self, name, value):
        """A line of postgresql.conf that a running server takes over. Returns when it has."""
        self._settings[name] = value
        self._write_settings()
        self.query("SELECT pg_reload_conf();")
        wait_until(lambda: self.query(f"SHOW {name};").strip() == value, f"{name} is {value}")

    def close(self):
        try:
            if self._bouncer:
                self._bouncer.kill()
                self._bouncer.wait()
                self._bouncer = None
            if self._holder:
                self._holder.kill()
                self._holder.communicate()
            self.resume()
            if self._postmaster:
                if self._postmaster.poll() is None:
                    self.kill()
                self._postmaster = None
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    # ---- how

    def _as_account(self, command):
        words = [str(word) for word in command]
        # Whoever kills us hard leaves nothing behind: the postmaster's processes end with it.
        words = ["setpriv", "--pdeathsig", "KILL", *(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"] if self._root else []), *words]
        return words

    def _environment(self):
        return {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, "LC_ALL": "C.UTF-8", "HOME": str(self._home)}

    def _spawn(self, command):
        with open(self.log, "ab") as log:
            return subprocess.Popen(self._as_account(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._home,
                                    env=self._environment(), start_new_session=True)

    def _run(self, command, **more):
        return subprocess.run(self._as_account(command), check=False, capture_output=True, text=True, cwd=self._home, env=self._environment(),
                              timeout=120 * STRETCH, **more)

    def _make(self):
        done = self._run([self._bin / "initdb", "-D", self.data, "-U", "owner", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8",
                          "--locale=C.UTF-8", "--no-sync"])
        if done.returncode:
            raise AssertionError(f"initdb: {done.stdout}{done.stderr}")
        self._write_settings()

    def _write_settings(self):
        lines = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self._home), "max_connections": "100",
                 "shared_buffers": "32MB", "dynamic_shared_memory_type": "mmap", "fsync": "off", "log_min_messages": "warning", **self._settings}
        text = "".join(f"{name} = '{value}'\n" for name, value in lines.items())
        path = self.data / "postgresql.conf"
        path.write_text(text)
        if self._root:
            shutil.chown(path, ACCOUNT, ACCOUNT)

    def _psql_command(self, database):
        return [self._bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self._home, "-p", self.port, "-U", "owner", "-d", database]

    def _psql(self, database, sql):
        done = self._run(self._psql_command(database), input=sql)
        if done.returncode:
            raise AssertionError(f"psql: {done.stderr}")
        return done.stdout

    def _answers(self):
        if self._postmaster.poll() is not None:
            raise AssertionError(f"PostgreSQL ended with {self._postmaster.returncode}:\n{self._tail()}")
        return self._run([self._bin / "pg_isready", "-q", "-h", self._home, "-p", self.port]).returncode == 0

    def _tail(self):
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def _pids(self):
        return [self._postmaster.pid, *_children(self._postmaster.pid)]

    def _is_ours(self, pid):
        """Whether the process still works on this directory; a number that another process has by now is none of ours."""
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            return False
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{pid}/cwd") == str(self.data)
        return False

    def _start_bouncer(self):
        self.bouncer_port = free_port()
        # Fewer connections to the server than the clients have: each transaction may meet another one.
        (self._home / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        (self._home / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.bouncer_port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self._home}/users\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n"
            "server_login_retry = 1\n")
        for name in ("users", "pgbouncer.ini"):
            if self._root:
                shutil.chown(self._home / name, ACCOUNT, ACCOUNT)
        self._bouncer = self._spawn([self._bouncer_program, "-q", self._home / "pgbouncer.ini"])

        def listens():
            if self._bouncer.poll() is not None:
                raise AssertionError(f"pgbouncer ended with {self._bouncer.returncode}:\n{self._tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.bouncer_port), timeout=1):
                return True
            return False

        wait_until(listens, "pgbouncer listens")


def _perform(server, words):
    command, *rest = words
    if command in ("start", "stop", "restart", "kill", "pause", "resume", "create", "setting", "let_go"):
        getattr(server, command)(*rest)
        return {}
    if command == "urls":
        return {"direct": server.url(*rest), "pooled": server.pooled_url(*rest) if server._bouncer else ""}
    if command == "query":
        return {"rows": server.query(" ".join(rest[1:]), rest[0])}
    if command == "hold":
        server.hold(" ".join(rest[1:]), rest[0])
        return {}
    raise ValueError(f"unknown command {command}")


def main():
    parser = argparse.ArgumentParser(description="A PostgreSQL for tests, steered by lines on the standard input.")
    parser.add_argument("--no-pgbouncer", action="store_true")
    parser.add_argument("--directory", help="where its temporary directory is made")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a line of postgresql.conf")
    arguments = parser.parse_args()
    settings = dict(each.split("=", 1) for each in arguments.set)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server = PostgresServer(settings, not arguments.no_pgbouncer, arguments.directory)
    except Missing as missing:
        print(json.dumps({"missing": str(missing)}), flush=True)
        return
    with server:
        print(json.dumps({"bin": str(server._bin), "port": server.port, "log": str(server.log)}), flush=True)
        for line in sys.stdin:
            if line.strip():
                try:
                    answer = _perform(server, line.split())
                except (AssertionError, subprocess.SubprocessError, OSError, TypeError, ValueError) as error:
                    answer = {"error": str(error)}
                print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
