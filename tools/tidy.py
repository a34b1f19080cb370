#!/usr/bin/env python3
"""Runs the short list of .clang-tidy, and clang's thread-safety analysis, over every C++ file that a build tree compiles.

    tools/tidy.py [--build build/release] [FILE...]    exit 1 if there is a finding
    tools/tidy.py --self-test    only proves that a wrong file would be found

A file that passed is not looked at again until it, a header of ours or the list changes: build/TREE/tidy keeps what passed.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIDY = "clang-tidy-19"
INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', re.MULTILINE)
UNITY = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)
WRONG = """#include <utility>
#include <string>
#include "os/mutex.h"
struct Counter {
  keelback::os::Mutex mutex;
  int value GUARDED_BY(mutex) = 0;
  int read() { return value; }
};
std::string twice(std::string text) {
  std::string taken = std::move(text);
  return taken + text;
}
"""


def compiled(build):
    """{source: its command} of our own files in the build tree's database; a unity file stands for those that it includes."""
    database = build / "compile_commands.json"
    if not database.exists():
        sys.exit(f"{database} is not there: scripts/build release makes it")
    found = {}
    for entry in json.loads(database.read_text()):
        path = (Path(entry["directory"]) / entry["file"]).resolve()
        unity = path.parent.name == "Unity" and path.is_relative_to(build)
        for source in map(Path, UNITY.findall(path.read_text())) if unity else [path]:
            if source.is_relative_to(ROOT) and not source.is_relative_to(build):
                found[source] = entry["command"].replace(str(path), str(source))
    return found


def write_database(directory, commands):
    """For clang-tidy: each source with a command of its own."""
    directory.mkdir(exist_ok=True)
    entries = [{"directory": str(directory), "file": str(source), "command": command} for source, command in commands.items()]
    (directory / "compile_commands.json").write_text(json.dumps(entries))


class Fingerprints:
    """What a verdict depends on: the text of a file and of our headers below it, the list, the command."""

    def __init__(self):
        self._texts, self._below = {}, {}
        self._list = (ROOT / ".clang-tidy").read_bytes() + Path(__file__).read_bytes()

    def of(self, source, command):
        digest = hashlib.sha256(self._list)
        # ccache, objects and dependency files are the build's business
        digest.update(" ".join(word for word in shlex.split(command) if word.startswith(("-I", "-D", "-std", "-f"))).encode())
        for path in sorted(self._closure(source)):
            digest.update(self._texts[path])
        return digest.hexdigest()

    def _closure(self, source):
        seen, front = set(), [source]
        while front:
            path = front.pop()
            if path not in seen:
                seen.add(path)
                front += self._included(path)
        return seen

    def _included(self, path):
        if path not in self._below:
            self._texts[path] = path.read_bytes()
            places = (path.parent, ROOT / "src", ROOT / "lab", ROOT / "include", ROOT / "tests")
            candidates = ([place / name.decode() for place in places] for name in INCLUDE.findall(self._texts[path]))
            found = (next((path for path in paths if path.is_file()), None) for paths in candidates)
            self._below[path] = [path.resolve() for path in found if path]
        return self._below[path]


def tidy(source, build):
    """The findings as text; empty if there is none."""
    done = subprocess.run([TIDY, "-p", build, "--quiet", f"--config-file={ROOT / '.clang-tidy'}", source], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout.strip() or done.stderr.strip()


def self_test():
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "wrong.cpp"
        source.write_text(WRONG)
        flags = ["-std=c++23", f"-I{ROOT / 'src'}"]
        write_database(Path(directory), {source: shlex.join(["g++", *flags, "-c", str(source)])})
        told = tidy(source, directory)
        assert "bugprone-use-after-move" in told, f"a use after move passed: {told}"
        assert "thread-safety" in told, f"a read without its lock passed: {told}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--self-test", action="store_true", help="only prove that a wrong file would be found")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    if not shutil.which(TIDY):
        sys.exit(f"{TIDY} is not installed; scripts/test lint installs it")
    if options.self_test:
        self_test()
        return 0
    build = options.build.resolve()
    commands = compiled(build)
    asked = {path.resolve() for path in options.files} or set(commands)
    passed = build / "tidy"
    passed.mkdir(exist_ok=True)
    fingerprints = Fingerprints()
    database = build / "tidy_database"
    write_database(database, commands)
    stamps = {source: passed / fingerprints.of(source, commands[source]) for source in sorted(asked) if source in commands}
    waiting = [source for source, stamp in stamps.items() if not stamp.exists()]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        for source, told in zip(waiting, executor.map(lambda source: tidy(source, database), waiting)):
            if told:
                failed += 1
                print(told.replace(f"{ROOT}/", ""), flush=True)
            else:
                stamps[source].touch()
    for stale in set(passed.iterdir()) - set(stamps.values()) if not options.files else ():
        stale.unlink()
    print(f"{len(stamps)} files, {len(stamps) - len(waiting)} known to pass, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
