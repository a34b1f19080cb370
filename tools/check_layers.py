#!/usr/bin/env python3
"""Holds the layer table of ARCHITECTURE.md: which folder may include which, and what the pure ones may not touch.

Run without arguments from anywhere; exit 0 and silence, or one line per violation and exit 1.
`--self-test` proves that a violation is seen.
"""
import re
import sys
import tempfile
from pathlib import Path

# folder of src/ -> folders of ours it may include (besides itself). "keelback" is include/keelback.
LAYERS = {
    "base": {"keelback"},
    "wire": {"base", "keelback"},
    "fakeworker": {"wire", "base", "keelback"},
    "core": {"base", "keelback"},
    "sim": {"core", "wire", "base", "keelback"},
    "os": {"base", "keelback"},
    "host": {"core", "wire", "store", "os", "base", "keelback"},
    "store": {"os", "base", "keelback"},
    "api": {"host", "store", "core", "os", "base", "keelback"},
    "simdriver": {"api", "host", "sim", "core", "os", "base", "keelback"},
    "server": {"api", "host", "store", "core", "os", "base", "keelback"},
    "cli": {"base", "wire", "core", "sim", "os", "host", "store", "api", "simdriver", "server", "keelback"},
}
# The same for the folders of lab/. Nothing of src/ includes them. "cli" is src/cli and lab/cli.
LAB = {
    "load": {"host", "core", "base", "keelback"},
    "report": {"base", "keelback"},
    "chaos": {"load", "report", "api", "store", "sim", "host", "core", "wire", "os", "base", "keelback"},
    "bench": {"load", "report", "api", "sim", "host", "core", "wire", "os", "base", "keelback"},
    "cli": {"base", "os", "host", "api", "simdriver", "load", "report", "chaos", "bench", "keelback"},
}
# What tests of every folder may include.
TEST_DOUBLES = {"simdriver"}
# Folders that touch nothing: no clock, thread, lock, I/O, environment, randomness of their own.
PURE = {"base", "wire", "core", "sim", "report"}
# base/check.cpp reports to stderr before it aborts: the one exception.
IMPURE_ALLOWED = {("base", "check.cpp")}
FORBIDDEN = re.compile(
    r"#include <(thread|mutex|shared_mutex|condition_variable|future|random|fstream|iostream|filesystem|"
    r"unistd\.h|fcntl\.h|sys/[a-z]+\.h|poll\.h|signal\.h|boost/asio.*|spdlog/.*)>"
    r"|\b(steady_clock|system_clock|high_resolution_clock)\b|\bgetenv\b|\brandom_device\b|\bsrand\b|\brand\(\)"
)
INCLUDE = re.compile(r'^\s*#\s*include\s+["<](?:([a-z]+)/)[^">]+[">]')


def violations(root: Path):
    found = []
    public = root / "include" / "keelback"
    for path in sorted(public.glob("*.h")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if match and not match.group(1).startswith("keelback/"):
                found.append(f"{path.relative_to(root)}:{number}: public headers include nothing of src/: {line.strip()}")
    ours = {*LAYERS, *LAB, "keelback"}
    rows = [("src", *row) for row in LAYERS.items()] + [("lab", *row) for row in LAB.items()]
    for tree, folder, allowed in rows:
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
                if folder in PURE and not test and (folder, path.name) not in IMPURE_ALLOWED:
                    code = line.split("//", 1)[0]
                    if FORBIDDEN.search(code):
                        found.append(f"{where}: {folder}/ is pure: {line.strip()}")
    return found


def self_test():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "include" / "keelback").mkdir(parents=True)
        (root / "src" / "core").mkdir(parents=True)
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


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    problems = violations(Path(__file__).resolve().parent.parent)
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(1 if problems else 0)
