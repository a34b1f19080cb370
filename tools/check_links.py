#!/usr/bin/env python3
"""Checks the ways between the documents: every link leads somewhere, and every page can be found.

    tools/check_links.py              prints what is wrong; exit 1 if there is something
    tools/check_links.py --self-test  also proves that each fault would be found

A relative link must lead to a file of this tree, and its #part to a heading of that page. docs/README.md links to every
other page of docs/. In README.md each row of a table whose last column is "proof" names a test or a scenario that is there.
"""
import argparse
import re
import sys

from check_docs import DOCUMENTS, QUOTED, ROOT, is_test, tests_there

LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
SCENARIO = re.compile(r"scenarios/[\w-]+\.toml")
INDEX = "docs/README.md"


def without_code(text):
    return re.sub(r"^( *)```.*?^\1```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def parts(text):
    """The #parts of a page, as GitHub names its headings."""
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def links(name, text):
    """[(link, the file that it names, its part)] of the relative links of a page."""
    found = []
    for target in (one or other for one, other in LINK.findall(without_code(text))):
        if not re.match(r"\w+:", target):
            path, _, part = target.partition("#")
            place = (ROOT / name).parent / path if path else ROOT / name
            found.append((target, place.resolve(), part))
    return found


def findings(documents, is_proof):
    found = []
    for name, text in documents.items():
        for link, place, part in links(name, text):
            inside = str(place.relative_to(ROOT)) if place.is_relative_to(ROOT) else None
            if inside not in documents and not place.exists():
                found.append(f"{name}: there is no {link}")
            elif part and part not in parts(documents[inside] if inside in documents else place.read_text()):
                found.append(f"{name}: there is no heading for {link}")
    listed = {place for _, place, _ in links(INDEX, documents[INDEX])}
    found += [f"{INDEX} does not list {name}" for name in documents
              if name.startswith("docs/") and name != INDEX and (ROOT / name).resolve() not in listed]
    return found + unproven(documents["README.md"], is_proof)


def unproven(text, is_proof):
    found, in_table = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|") and line.rstrip("| ").endswith("proof"):
            in_table = True
        elif in_table and line.startswith("|") and not line.startswith("|---"):
            if not any(is_proof(quoted) for quoted in QUOTED.findall(line.rstrip("| ").rpartition("|")[2])):
                found.append(f"README.md:{number}: the promise has no proof that is there")
        elif not line.startswith("|"):
            in_table = False
    return found


def self_test(is_proof):
    pages = {"README.md": "[a](docs/a.md#a-part) [b](docs/b.md) ![c](docs/nothing.svg)\n| promise | proof |\n|---|---|\n"
                          "| it is well | `DriverTest.NobodyWroteThis` |\n| so | `scenarios/worker-kill.toml` |\n",
             INDEX: "[a](a.md) `[code](nothing.md)`", "docs/a.md": "# A\n## Another part!\n[self](#another-part)", "docs/lonely.md": "# L"}
    told = findings(pages, is_proof)
    expected = ["README.md: there is no heading for docs/a.md#a-part", "README.md: there is no docs/b.md", "README.md: there is no docs/nothing.svg",
                "docs/README.md does not list docs/lonely.md", "README.md:4: the promise has no proof that is there"]
    assert told == expected, told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-test", action="store_true", help="also prove that each fault would be found")
    cpp, python = tests_there()

    def is_proof(name):
        return bool(is_test(name, cpp, python)) or bool(SCENARIO.fullmatch(name) and (ROOT / name).exists())

    if parser.parse_args().self_test:
        self_test(is_proof)
    documents = {name: (ROOT / name).read_text() for name in DOCUMENTS}
    found = findings(documents, is_proof)
    print("\n".join(found) if found else f"{sum(len(links(name, text)) for name, text in documents.items())} links lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
