"""What README.md and docs/ show is compiled and run, as it stands there.

    docs_test.py BUILD_DIR CXX

- C++: every block is compiled against an installed prefix; a whole program runs, with a copy of examples/ beside it.
- Python: every block is executed as a module.
- Shell: a block of lines with a prompt, `$ `, in README.md is typed in, and what it shows must come (a line … stands for any). The blocks of
  docs/install.md are typed in, in their order, beside the files that the page shows (`# app.py` in the first line); /opt/keelback is another directory
  there. Every other shell block is at least shell.
- TOML: every block is read.
- The picture of README.md is made anew, from another run.

docs/application.md, docs/clients.md and docs/tutorial.md have tests of their own; tests/dspy runs docs/dspy.md, where dspy is.
"""
import os
import re
import subprocess
import sys
import tomllib
import unittest
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from pages import BLOCK, NAMED, ROOT, STRETCH, PageTest, blocks, installed, typed

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages that are done by a test of their own.
TUTORIALS = [ROOT / "docs" / name for name in ("application.md", "clients.md", "dspy.md", "tutorial.md")]
BUILD, CXX = Path(sys.argv[1]).resolve(), sys.argv[2]


def all_blocks(language):
    return [block for page in PAGES if page not in TUTORIALS for block in blocks(page, language)]


class Documents(PageTest):
    @cached_property
    def prefix(self):
        installed(BUILD, self.here / "prefix")
        return self.here / "prefix"

    def run_here(self, command, place, **environment):
        done = subprocess.run(command, cwd=self.here, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120 * STRETCH)
        self.assertEqual(0, done.returncode, f"{place}: {command}\n{done.stdout}")
        return done.stdout

    def test_cpp_blocks_compile_and_programs_run(self):
        (self.here / "examples").symlink_to(ROOT / "examples")
        (self.here / "app.py").write_text(next(text for _, text in blocks(ROOT / "docs" / "install.md", "python")))
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "keelback"], check=True, capture_output=True, text=True,
                               env={**os.environ, "PKG_CONFIG_PATH": str(next(self.prefix.rglob("keelback.pc")).parent)}).stdout.split()
        found = all_blocks("cpp")
        self.assertGreaterEqual(len(found), 2)
        for number, (place, text) in enumerate(found):
            with self.subTest(place):
                program = "int main(" in text
                source = self.here / f"block{number}.cpp"
                source.write_text(text if program else f"#include <keelback/keelback.h>\n{text}")
                if not program:
                    self.run_here([CXX, "-fsyntax-only", source.name, *flags], place)
                    continue
                self.run_here([CXX, "-Wall", "-Wextra", "-Werror", source.name, "-o", f"block{number}", *flags], place)
                self.run_here([f"./block{number}"], place)

    def test_python_blocks_run(self):
        (self.here / "table.txt").write_text("one 1\ntwo 2\n")
        found = all_blocks("python")
        self.assertGreaterEqual(len(found), 5)
        for number, (place, text) in enumerate(found):
            with self.subTest(place):
                (self.here / f"block{number}.py").write_text(text)
                self.run_here([sys.executable, f"block{number}.py"], place, PYTHONPATH=str(self.prefix / "share/keelback/python"))

    def test_toml_blocks_are_read(self):
        for place, text in all_blocks("toml"):
            with self.subTest(place):
                tomllib.loads(text)

    def test_shell_blocks_are_shell(self):
        for place, text in all_blocks("sh"):
            with self.subTest(place):
                commands = [command for command, _ in typed(text)] or [text]
                self.run_here(["bash", "-n", "-c", "\n".join(commands)], place)
                for script in re.findall(r"\bscripts/\w+", text):
                    self.assertTrue(os.access(ROOT / script, os.X_OK), f"{place}: {script}")

    def test_the_readme_types_what_works(self):
        (self.here / "examples").symlink_to(ROOT / "examples")
        self.path_begins_with(BUILD)
        steps = [(place, *step) for place, text in blocks(ROOT / "README.md", "sh") for step in typed(text)]
        self.assertGreaterEqual(len(steps), 5)
        for place, command, shown in steps:
            with self.subTest(command):
                self.type(place, command, shown)

    def test_packages_have_the_name_of_this_version(self):
        version = re.search(r"^project\(keelback VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)[1]
        named = {(page.name, found) for page in PAGES for found in re.findall(r"\bkeelback[_-](\d+\.\d[\d.]*\d)-", page.read_text())}
        self.assertLessEqual({"README.md", "packages.md"}, {page for page, _ in named})
        self.assertEqual({version}, {found for _, found in named}, named)

    def test_the_readme_is_read_in_three_minutes(self):
        text = BLOCK.sub("", (ROOT / "README.md").read_text())
        prose = re.sub(r"^\|.*$|\]\([^)]*\)", "", text, flags=re.MULTILINE)
        self.assertLessEqual(len(prose.split()), 450, "words beside tables and code")

    def test_the_picture_can_be_made_anew(self):
        picture = self.here / "picture.svg"
        self.run_here([sys.executable, ROOT / "tools" / "picture.py", "--keelback", BUILD / "keelback", "--out", picture], "tools/picture.py")
        for path in (picture, ROOT / "docs" / "pictures" / "one-call-is-lost.svg"):
            words = " ".join(ElementTree.parse(path).getroot().itertext())
            # As many bars as it says, and one of them is red.
            calls, ok = map(int, re.search(r"(\d+) calls: (\d+) ok; 1 worker_died", words).groups())
            self.assertEqual((ok, 1), (words.count(": ok,"), words.count(": worker_died,")), path)
            self.assertGreater(calls, ok)

    def test_the_page_on_installing_works(self):
        page = ROOT / "docs" / "install.md"
        for language in ("python", "cpp", "cmake"):
            for _, text in blocks(page, language):
                (self.here / NAMED.match(text)[1]).write_text(text)
        steps = blocks(page, "sh")
        self.assertIn("scripts/build", steps[0][1])
        told = ""
        for place, text in steps:
            text = text.replace("/opt/keelback", str(self.prefix))
            # This tree is built already.
            text = "\n".join(line for line in text.splitlines() if "scripts/build" not in line).replace("build/release", f"'{BUILD}'")
            told += self.run_here(["bash", "-ec", text], place)
        self.assertEqual(2, told.count('"Hello, Ada!"'), told)


if __name__ == "__main__":
    sys.argv[1:3] = []
    unittest.main(verbosity=2)
