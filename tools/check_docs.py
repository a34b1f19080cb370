#!/usr/bin/env python3
"""Holds what the documents say of this tree: every file and every test that they name is there.

    tools/check_docs.py              names what is not; exit 1 if there is something
    tools/check_docs.py --self-test  also proves that a wrong name would be found

In backquotes: a path of the tree with a known ending; `Suite.Test` of a GoogleTest program, `*` standing for anything; `Suite` or
`e2e Class[.test]` of the Python tests. In docs/failure-modes.md every row of a table must name at least one test.
"""
import argparse
import fnmatch
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
QUOTED = re.compile(r"`([^`\n]+)`")
A_PATH = re.compile(r"(?:src|include|python|tests|tools|scripts|examples|docs|cmake|scenarios)/[\w./-]*\w\.(?:h|cpp|py|md|txt|sh|toml|cmake)")
A_SUITE = re.compile(r"([A-Z]\w+)\.([\w*]+)")
A_CLASS = re.compile(r"e2e (\w+)(?:\.(\w+))?")
GTEST = re.compile(r"^TEST(?:_P|_F)?\((\w+),\s*(\w+)\)", re.MULTILINE)
RAPIDCHECK = re.compile(r"^RC_GTEST_PROP\((\w+),\s*(\w+)", re.MULTILINE)


def tests_there():
    """{"Suite.Test"} of the GoogleTest programs, {"Class", "Class.test"} of the Python ones."""
    cpp, python = set(), set()
    for path in [*(ROOT / "src").rglob("*_test.cpp"), *(ROOT / "tests").rglob("*.cpp")]:
        text = path.read_text()
        for pattern in (GTEST, RAPIDCHECK):
            cpp.update(f"{suite}.{name}" for suite, name in pattern.findall(text))
    for path in [*(ROOT / "tests").rglob("*_test.py"), *(ROOT / "python" / "tests").glob("test_*.py")]:
        owner = None
        for line in path.read_text().splitlines():
            if found := re.match(r"class (\w+)", line):
                owner = found.group(1)
                python.add(owner)
            elif found := re.match(r"    def (test_\w+)", line):
                python.add(f"{owner}.{found.group(1)}")
    return cpp, python


def is_test(name, cpp, python):
    """None if it does not look like the name of a test, else whether there is one of that name."""
    if found := A_CLASS.fullmatch(name):
        return ".".join(part for part in found.groups() if part) in python
    found = A_SUITE.fullmatch(name)
    suites = {test.split(".")[0] for test in cpp}
    if not found or not any(found.group(1) == suite or found.group(1).endswith(("Test", "Suite")) for suite in suites):
        return None
    # `ServerTest.*Disconnect*` names several, and `AbuseTest.*` a fixture of either language.
    return any(fnmatch.fnmatchcase(test, name) for test in cpp) or name.split(".")[0] in python


def findings(documents, cpp, python):
    found = []
    for name, text in documents.items():
        for number, line in enumerate(text.splitlines(), 1):
            named = QUOTED.findall(line)
            for quoted in named:
                if A_PATH.fullmatch(quoted) and not (ROOT / quoted).exists():
                    found.append(f"{name}:{number}: there is no file {quoted}")
                if is_test(quoted, cpp, python) is False:
                    found.append(f"{name}:{number}: there is no test {quoted}")
            row = name.endswith("failure-modes.md") and line.startswith("| ") and not line.startswith(("| fault |", "|---"))
            if row and not any(is_test(quoted, cpp, python) for quoted in named) and not any(quoted in {t.split(".")[1] for t in cpp} for quoted in named):
                found.append(f"{name}:{number}: the row names no test that is there")
    return found


def self_test(cpp, python):
    wrong = {"docs/failure-modes.md": "| fault | test |\n|---|---|\n| it breaks | `DriverTest.NobodyWroteThis` |\n| again | none |\n", "x.md": "see `src/core/nothing.h`"}
    told = findings(wrong, cpp, python)
    for word in ("there is no test DriverTest.NobodyWroteThis", "failure-modes.md:4: the row names no test", "there is no file src/core/nothing.h"):
        assert any(word in line for line in told), (word, told)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-test", action="store_true", help="also prove that a wrong name would be found")
    cpp, python = tests_there()
    if parser.parse_args().self_test:
        self_test(cpp, python)
    found = findings({name: (ROOT / name).read_text() for name in DOCUMENTS}, cpp, python)
    print("\n".join(found) if found else f"{len(DOCUMENTS)} documents, {len(cpp)} tests in C++, {len(python)} classes and tests in Python")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
