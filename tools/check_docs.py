#!/usr/bin/env python3
"""Checks the documents: what they name is there, their lines fit, and they use our words.

    tools/check_docs.py              prints what is wrong; exit 1 if there is something
    tools/check_docs.py --self-test  also proves that each fault would be found

Names, in backquotes: a path of the tree with a known ending; `Suite.Test` of a GoogleTest program,
where `*` stands for anything; `Suite` or `e2e Class[.test]` of the Python tests. In
docs/failure-modes.md every row of a table must name at least one test.

Lines have at most 100 columns, except in tables and in blocks of code.

Words: the table under "Words" in ARCHITECTURE.md. No word is there twice, each is used somewhere in
the documents, and what its third column names stands in no document.
"""
import argparse
import fnmatch
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md",
             *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
COLUMNS = 100
QUOTED = re.compile(r"`([^`\n]+)`")
A_PATH = re.compile(r"(?:src|lab|include|python|tests|tools|scripts|examples|docs|cmake|scenarios)/[\w./-]*\w\.(?:h|cpp|py|md|txt|sh|toml|cmake)")
A_SUITE = re.compile(r"([A-Z]\w+)\.([\w*]+)")
A_CLASS = re.compile(r"e2e (\w+)(?:\.(\w+))?")
GTEST = re.compile(r"^TEST(?:_P|_F)?\((\w+),\s*(\w+)\)", re.MULTILINE)
RAPIDCHECK = re.compile(r"^RC_GTEST_PROP\((\w+),\s*(\w+)", re.MULTILINE)


def tests_there():
    """{"Suite.Test"} of the GoogleTest programs, {"Class", "Class.test"} of the Python ones."""
    cpp, python = set(), set()
    for path in [*(ROOT / "src").rglob("*_test.cpp"), *(ROOT / "lab").rglob("*_test.cpp"), *(ROOT / "tests").rglob("*.cpp")]:
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


def prose(text):
    """(number, line) of the lines that are neither in a table nor in a block of code."""
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        in_code = in_code != fence
        if not in_code and not fence and not line.startswith("|"):
            yield number, line


def too_long(name, text):
    return [f"{name}:{number}: {len(line)} columns, {COLUMNS} is the most"
            for number, line in prose(text) if len(line) > COLUMNS and " " in line.strip()]


def word_list(architecture):
    """[(word, the words that are not used for it)] of the table under "Words"."""
    rows = architecture.partition("\n## Words\n")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]
    return [(row[0], [each.strip() for each in row[2].split(",") if each.strip()]) for row in cells[2:]]


def misused(documents, words):
    found = [f"ARCHITECTURE.md: the word {word} is in the list twice"
             for word, count in Counter(word for word, _ in words).items() if count > 1]
    everything = "\n".join(text.partition("\n## Words\n")[0] for text in documents.values())
    for word, others in words:
        if not re.search(rf"\b{word}", everything, re.IGNORECASE):
            found.append(f"ARCHITECTURE.md: the word {word} is in the list, and no document uses it")
        for other in others:
            is_there = re.compile(rf"\b{other}s?\b", re.IGNORECASE)
            for name, text in documents.items():
                found += [f'{name}:{number}: "{other}" is not our word; write "{word}"'
                          for number, line in prose(text) if is_there.search(QUOTED.sub("", line))]
    return found


def findings(documents, cpp, python):
    plain_names = {test.split(".")[1] for test in cpp}
    found = misused(documents, word_list(documents.get("ARCHITECTURE.md", "")))
    for name, text in documents.items():
        found += too_long(name, text)
        for number, line in enumerate(text.splitlines(), 1):
            named = QUOTED.findall(line)
            for quoted in named:
                if A_PATH.fullmatch(quoted) and not (ROOT / quoted).exists():
                    found.append(f"{name}:{number}: there is no file {quoted}")
                if is_test(quoted, cpp, python) is False:
                    found.append(f"{name}:{number}: there is no test {quoted}")
            row = name.endswith("failure-modes.md") and line.startswith("| ") and not line.startswith("| fault |")
            if row and not any(is_test(quoted, cpp, python) or quoted in plain_names for quoted in named):
                found.append(f"{name}:{number}: the row names no test that is there")
    return found


def self_test(cpp, python):
    wrong = {"docs/failure-modes.md": "| fault | test |\n|---|---|\n| it breaks | `DriverTest.NobodyWroteThis` |\n| again | none |\n",
             "x.md": "see `src/core/nothing.h`"}
    wrong["ARCHITECTURE.md"] = ("A worker.\n## Words\n| word | meaning | not |\n|---|---|---|\n| worker | w | slave |\n"
                                "| worker | w | |\n| zygote | z | fork server |\n")
    wrong["y.md"] = "x " * 51 + "\n```\n" + "x " * 51 + "a slave\n```\ntwo Slaves, `slave`\n"
    told = findings(wrong, cpp, python)
    for word in ("there is no test DriverTest.NobodyWroteThis", "failure-modes.md:4: the row names no test",
                 "there is no file src/core/nothing.h", "y.md:1: 102 columns", 'y.md:5: "slave" is not our word',
                 "the word worker is in the list twice", "the word zygote is in the list, and no document uses it"):
        assert any(word in line for line in told), (word, told)
    assert not any("y.md:3" in line for line in told), told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-test", action="store_true", help="also prove that each fault would be found")
    cpp, python = tests_there()
    if parser.parse_args().self_test:
        self_test(cpp, python)
    found = findings({name: (ROOT / name).read_text() for name in DOCUMENTS}, cpp, python)
    print("\n".join(found) if found else f"{len(DOCUMENTS)} documents, {len(cpp)} tests in C++, {len(python)} classes and tests in Python")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
