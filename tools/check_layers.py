#!/usr/bin/env python3
"""Holds the layer table of ARCHITECTURE.md: which folder may include and link to which, and what the pure ones may not touch.

Run without arguments from anywhere; exit 0 and silence, or one line per violation and exit 1.
`--self-test` proves that a violation is seen.
"""
import re
import sys
import tempfile
from pathlib import Path

# A row of the code map: | `src/NAME/` | what it is | folders it may include; pure |
ROW = re.compile(r"^\| `(src|lab)/([a-z]+)/` \|.*\| ([^|]*) \|$", re.M)
# What tests of every folder may include.
TEST_DOUBLES = {"simdriver"}
# base/check.cpp reports to stderr before it aborts: the one exception.
IMPURE_ALLOWED = {("base", "check.cpp")}
FORBIDDEN = re.compile(
    r"#include <(thread|mutex|shared_mutex|condition_variable|future|random|fstream|iostream|filesystem|"
    r"unistd\.h|fcntl\.h|sys/[a-z]+\.h|poll\.h|signal\.h|boost/asio.*|spdlog/.*)>"
    r"|\b(steady_clock|system_clock|high_resolution_clock)\b|\bgetenv\b|\brandom_device\b|\bsrand\b|\brand\(\)"
)
# What a library of a folder links to, in its CMakeLists.txt.
DEPS = re.compile(r"^keelback_library\([^()]*?\bDEPS\s+([a-z_\s]+)", re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s+["<](?:([a-z]+)/)[^">]+[">]')


def code_map(root: Path):
    """(tree, folder) -> the folders it may include besides itself and include/keelback; and the pure ones, which have
    no clock, thread, lock, I/O, environment and randomness of their own."""
    rows, pure = {}, set()
    table = ROW.findall((root / "ARCHITECTURE.md").read_text())
    for tree, folder, cell in table:
        folders, _, purity = cell.partition(";")
        rows[tree, folder] = {"keelback", *re.findall(r"[a-z]+", folders)}
        if "all of `src/`" in folders:
            rows[tree, folder] |= {each for row_tree, each, _ in table if row_tree == "src"}
        if "pure" in (folders.strip(), purity.strip()):
            pure.add((tree, folder))
    return rows, pure


def violations(root: Path):
    found = []
    public = root / "include" / "keelback"
    for path in sorted(public.glob("*.h")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if match and not match.group(1).startswith("keelback/"):
                found.append(f"{path.relative_to(root)}:{number}: public headers include nothing of src/: {line.strip()}")
    rows, pure = code_map(root)
    ours = {"keelback", *(folder for _, folder in rows)}
    for tree in ("src", "lab"):
        for path in sorted((root / tree).glob("*")):
            if path.is_dir() and path.name != "__pycache__" and (tree, path.name) not in rows:
                found.append(f"{tree}/{path.name}: ARCHITECTURE.md has no row for it")
    for (tree, folder), allowed in rows.items():
        build = root / tree / folder / "CMakeLists.txt"
        for linked in DEPS.findall(build.read_text()) if build.exists() else []:
            for dep in sorted(set(linked.split()) & ours - allowed - {folder}):
                found.append(f"{tree}/{folder}/CMakeLists.txt: {folder}/ may not link to {dep}/")
        for path in sorted((root / tree / folder).rglob("*")):
            if path.suffix not in {".h", ".cpp"}:
                continue
            test = path.name.endswith(("_test.cpp", "_bench.cpp"))
            for number, line in enumerate(path.read_text().splitlines(), 1):
                where = f"{path.relative_to(root)}:{number}"
                match = INCLUDE.match(line)
                if test and match and match.group(1) in TEST_DOUBLES:
                    continue
                if match and match.group(1) in ours:
                    if match.group(1) != folder and match.group(1) not in allowed:
                        found.append(f"{where}: {folder}/ may not include {match.group(1)}/")
                if (tree, folder) in pure and not test and (folder, path.name) not in IMPURE_ALLOWED:
                    code = line.split("//", 1)[0]
                    if FORBIDDEN.search(code):
                        found.append(f"{where}: {folder}/ is pure: {line.strip()}")
    return found


def self_test():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "include" / "keelback").mkdir(parents=True)
        (root / "src" / "core").mkdir(parents=True)
        (root / "ARCHITECTURE.md").write_text(
            "| `src/base/` | ids | pure |\n| `src/core/` | pool | base; pure |\n| `src/host/` | loop | core |\n"
            "| `lab/load/` | load | host |\n| `lab/chaos/` | faults | load |\n")
        bad = root / "src" / "core" / "bad.cpp"
        bad.write_text('#include "host/loop.h"\n#include <thread>\nauto t = std::chrono::steady_clock::now();\n')
        (root / "include" / "keelback" / "bad.h").write_text('#include "core/pool.h"\n')
        (root / "lab" / "load").mkdir(parents=True)
        (root / "lab" / "load" / "bad.h").write_text('#include "chaos/lab.h"\n')
        assert len(violations(root)) == 5, violations(root)
        bad.write_text('#include "chaos/lab.h"\n')
        assert any("core/ may not include chaos/" in each for each in violations(root))
        bad.write_text('#include "base/id.h"\n')
        (root / "lab" / "load" / "bad.h").write_text('#include "host/host.h"\n')
        (root / "include" / "keelback" / "bad.h").write_text("#include <string>\n")
        assert not violations(root)
        (root / "src" / "core" / "CMakeLists.txt").write_text(
            "keelback_library(core HOT\n  SOURCES a.cpp\n  DEPS base host\n  EXTERNAL fmt::fmt)\n")
        assert violations(root) == ["src/core/CMakeLists.txt: core/ may not link to host/"]
        (root / "src" / "core" / "CMakeLists.txt").unlink()
        (root / "src" / "new").mkdir()
        assert violations(root) == ["src/new: ARCHITECTURE.md has no row for it"]


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    problems = violations(Path(__file__).resolve().parent.parent)
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(1 if problems else 0)
