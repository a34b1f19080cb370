#!/usr/bin/env python3
"""Runs spin on commit.pml: the rule holds, and without the commit's condition it does not.

Usage: check_model.py SPIN MODEL. spin compiles a checker with gcc in a directory that goes again.
"""
import subprocess
import sys
import tempfile
from pathlib import Path


def errors(spin, model, *defines):
    """How many errors an exhaustive search finds (it stops at the first), and what spin said."""
    with tempfile.TemporaryDirectory() as directory:
        command = [spin, *(f"-D{name}" for name in defines), "-a", str(model)]
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
        compiled = ["gcc", "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c"]
        subprocess.run(compiled, cwd=directory, check=True, capture_output=True, text=True)
        out = subprocess.run(["./pan", "-m100000"], cwd=directory, check=True, capture_output=True, text=True).stdout
    assert "Search not completed" not in out or "errors: 0" not in out, f"the search was cut short:\n{out}"
    assert "max search depth too small" not in out, out
    (line,) = [each for each in out.splitlines() if "errors:" in each]
    return int(line.rsplit("errors:", 1)[1]), out


def main():
    spin, model = sys.argv[1], Path(sys.argv[2]).resolve()
    found, said = errors(spin, model)
    assert found == 0, said
    found, said = errors(spin, model, "NO_RETIREMENT")
    assert found == 0, "the lease is to spare work, not to make commits safe:\n" + said
    found, said = errors(spin, model, "NO_CONDITION")
    assert found > 0, "a commit without its condition was not found:\n" + said
    print("the commit's rule holds, and is needed")


if __name__ == "__main__":
    main()
