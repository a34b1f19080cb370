#!/usr/bin/env python3
"""Holds the house's format: every C++ file is as clang-format-19 writes it.

    tools/format.py          names each place that differs; exit 1 if there is one
    tools/format.py --fix    rewrites the files
    tools/format.py --self-test    also proves that a wrong file would be found
"""
import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORMATTER = "clang-format-19"
CPP = (".cpp", ".h")


def tracked():
    """The repository's files; in a tree that is no checkout, all files outside build and hidden folders."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                 if path.is_file() and not any(part == "build" or part.startswith(".") for part in path.relative_to(ROOT).parts)]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def findings(files, fix):
    """One line for each place that the formatter would write otherwise; with `fix` it writes it."""
    if not shutil.which(FORMATTER):
        sys.exit(f"{FORMATTER} is not installed; `scripts/test lint` installs it")
    batches = [files[start:start + 40] for start in range(0, len(files), 40)]
    mode = ["-i"] if fix else ["--dry-run"]

    def run(batch):
        return subprocess.run([FORMATTER, f"--style=file:{ROOT / '.clang-format'}", *mode, *batch], capture_output=True, text=True, check=True).stderr

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        told = "".join(executor.map(run, batches))
    return [line.split(" warning: ")[0] + " is not as the formatter writes it" for line in told.splitlines() if " warning: " in line]


def self_test():
    with tempfile.TemporaryDirectory() as directory:
        wrong = Path(directory) / "wrong.cpp"
        wrong.write_text("int  f( ){return 1;}\n")
        assert findings([wrong], fix=False), "a file in no format passed"
        findings([wrong], fix=True)
        assert not findings([wrong], fix=False), "what the formatter wrote did not pass"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="rewrite the files")
    parser.add_argument("--self-test", action="store_true", help="also prove that a wrong file would be found")
    options = parser.parse_args()
    if options.self_test:
        self_test()
    found = findings([path for path in tracked() if path.suffix in CPP], options.fix)
    if options.fix:
        return 0
    for line in found:
        print(line.replace(f"{ROOT}/", ""))
    if found:
        print(f"{len(found)} places; `tools/format.py --fix` rewrites them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
