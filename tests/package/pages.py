"""Reads the pages of docs/, and does what a page says: writes the files that it shows and types its commands, from the top to the bottom.

A block whose first line is a comment with a file name (`# app.py`, `// main.cpp`) is that file. A line `$ command` of a block `sh` is typed into one
shell, and what stands below it must come; … stands for anything in its line. A command that ends in & serves: the next step comes when the daemon is
ready. The port 8080 of the pages is another one here, in files and in commands, because tests run side by side.
"""
import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, STRETCH, Client, marked, wait_until  # noqa: E402, F401

BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|//|<!--) (\S+\.(?:py|cpp|txt|toml|go|mjs|exs|sh))(?: -->)?\n")


def every_block(page):
    """[(place, language, text)] of a page, in its order."""
    text = page.read_text()
    return [(f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}", found[2], re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE))
            for found in BLOCK.finditer(text)]


def blocks(page, language):
    """[(place, text)] of a page's blocks in a language."""
    return [(place, text) for place, found, text in every_block(page) if found == language]


def section(page, title):
    """[(place, language, text)] of what stands below a heading of the second level, up to the next one; before the first one with None."""
    lines = page.read_text().splitlines()
    heads = [number for number, line in enumerate(lines, 1) if line.startswith("## ")]
    begin = 0 if title is None else next((number for number in heads if lines[number - 1] == f"## {title}"), None)
    assert begin is not None, f"{page.name} has no section {title}"
    end = next((number for number in heads if number > begin), len(lines) + 1)
    return [step for step in every_block(page) if begin <= int(step[0].rsplit(":", 1)[1]) < end]


def typed(text):
    """[(command, shown lines)] of a block with prompts. A command goes on in the next line, which begins with "> ", if it ends in a backslash."""
    steps = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif steps and line.startswith("> ") and steps[-1][0].endswith("\\") and not steps[-1][1]:
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", [])
        elif steps:
            steps[-1][1].append(line)
    return steps


def shows(told, shown):
    """Whether the shown lines come at the beginning of what was told. … stands for anything in its line, and columns may be wider or narrower."""
    def matches(line, came):
        return re.fullmatch(".*".join(re.escape(" ".join(part.split())) for part in line.split("…")), " ".join(came.split()))

    told = told[:len(shown)]
    return len(told) == len(shown) and all(map(matches, shown, told))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def installed(build, prefix):
    """Installs the build tree there."""
    done = subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class PageTest(unittest.TestCase):
    """A test with an empty directory, in which it does what pages say. Whatever it starts is ended with it."""

    maxDiff = None

    def setUp(self):
        self.here = Path(tempfile.mkdtemp(prefix="keelback-page-"))
        self.addCleanup(shutil.rmtree, self.here, ignore_errors=True)
        self.port, self.test_id = free_port(), uuid.uuid4().hex
        self.environment = {**os.environ, "KEELBACK_TEST_ID": self.test_id, "KEELBACK_URL": f"127.0.0.1:{self.port}"}
        for name in ("KEELBACK_BACKEND", "KEELBACK_LEVEL", "KEELBACK_TIMEOUTS"):
            self.environment.pop(name, None)
        self.addCleanup(self.end_all)

    def end_all(self):
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for pid in marked(self.test_id):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may be going just now
                    if signum == signal.SIGKILL or Path(f"/proc/{pid}/comm").read_text() == "keelback\n":
                        os.kill(pid, signum)
            try:
                wait_until(lambda: not marked(self.test_id), "what the page started has ended", 10)
            except AssertionError:
                continue
            return

    def path_begins_with(self, *directories):
        self.environment["PATH"] = os.pathsep.join([*map(str, directories), self.environment["PATH"]])

    def do(self, steps):
        """Does the steps of a page, as section() returns them."""
        for place, language, text in steps:
            if named := NAMED.match(text):
                (self.here / named[1]).parent.mkdir(parents=True, exist_ok=True)
                (self.here / named[1]).write_text(text.replace(":8080", f":{self.port}"))
            elif language == "sh":
                self.assertTrue(typed(text), f"{place}: a block without a prompt")
                for command, shown in typed(text):
                    self.type(place, command, shown)

    def wait_until_nobody_serves(self):
        """A daemon that drains lets go of its port when it ends; a reader types more slowly."""
        def refused():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) != 0

        wait_until(refused, "the daemon before this one has ended", 30)

    def all_serve(self):
        """Every worker of the daemon is ready: a reader types more slowly than they start."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            pool = Client(f"127.0.0.1:{self.port}").get("/v1/pool").json
            return pool["ready"] and pool["workers"]["starting"] == 0
        return False

    def type(self, place, command, shown):
        """Types a command into the test's one shell, and compares."""
        if not hasattr(self, "shell"):
            self.shell = subprocess.Popen(["bash"], cwd=self.here, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, text=True)
            self.addCleanup(self.shell.communicate)
        text = command.replace(":8080", f":{self.port}")
        if serves := text.endswith("&"):
            self.wait_until_nobody_serves()
            text = text.removesuffix("&") + ">>serve.log 2>&1 & disown"
        end = f"end of the command, {self.test_id}"
        limit = threading.Timer(240 * STRETCH, self.shell.kill)
        limit.start()
        self.shell.stdin.write(f"{{ {text}\n}} </dev/null\necho; echo '{end}'\n")
        self.shell.stdin.flush()
        told = []
        while (line := self.shell.stdout.readline()) != f"{end}\n":
            self.assertTrue(line, f"{place}: {command}: the shell has ended\ntold: {told}")
            told.append(line.rstrip("\n").replace(f":{self.port}", ":8080"))
        limit.cancel()
        if serves:
            wait_until(self.all_serve, lambda: f"{place}: every worker is ready; {(self.here / 'serve.log').read_text()}", 60)
        told = "\n".join(told).rstrip("\n")
        self.assertTrue(shows(told.splitlines(), shown), f"{place}: {command}\nshown: {shown}\ntold: {told}")
