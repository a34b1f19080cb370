"""Forked and executed workers give the same answers: small applications, each in both modes.

The applications and what they answer stand in tests/start_modes. Each is asked by 16 callers at
once; no answer may be wrong.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "start_modes"))
import given  # noqa: E402, F401, I001
import reading  # noqa: E402, F401, I001
import settings  # noqa: E402, F401
import sharing  # noqa: E402, F401
import writing  # noqa: E402, F401
from keelback_testing import ROOT, KeelbackTest, main  # noqa: E402
from table import EXEC, FORK, GROUPS, Run  # noqa: E402

WORKERS = 4
CALLERS = 16


def python_with(module):
    """An interpreter that has the module, or None."""
    for python in (
        os.environ.get("KEELBACK_TEST_PYTHON"),
        ROOT / ".venv-peers" / "bin" / "python",
        sys.executable,
    ):
        if (
            python
            and Path(python).exists()
            and not subprocess.run(
                [python, "-c", f"import {module}"], capture_output=True
            ).returncode
        ):
            return python
    return None


class _SameAnswers(KeelbackTest):
    GROUP = ""
    CALLS = 300

    def compare(self):
        for app in GROUPS[self.GROUP]:
            python = python_with(app.needs) if app.needs else None
            if app.needs and python is None:
                print(f"left out: {app.name}: no interpreter here has {app.needs}")
                continue
            text = app.source + "".join(app.files.values())
            if ("multiprocessing" in text or "ProcessPool" in text) and not os.access("/dev/shm", os.W_OK):
                print(f"left out: {app.name}: /dev/shm takes no files of ours")
                continue
            for zygote in ("auto", "off"):
                with self.subTest(app=app.name, zygote=zygote):
                    self.run_in(app, zygote, python)

    def run_in(self, app, zygote, python):
        folder = self.tmp / f"{len(self.daemons)}"
        folder.mkdir()
        for name, text in app.files.items():
            (folder / name).write_text(text)
        (folder / "app.py").write_text(app.source)
        daemon = self.serve(
            folder / "app.py",
            workers=WORKERS,
            python=python,
            settings={"workers.zygote": zygote, **app.settings},
            env=app.environment,
        )
        daemon.prewarm(WORKERS)
        start = daemon.pool()["start"]
        mode = app.mode if zygote == "auto" else EXEC
        self.assertEqual(mode, start["mode"], start)
        self.explained(app, zygote, start)
        answers = self.ask_all(daemon, app)
        wrong = [
            (app.ask(i), answer)
            for i, answer in enumerate(answers)
            if isinstance(answer, BaseException) or not app.right(i, answer)
        ]
        self.assertEqual([], wrong[:3], f"{len(wrong)} of {len(answers)} answers are wrong")
        self.assertEqual(0, daemon.stop())
        imports = 1 if mode == FORK else WORKERS + (zygote == "auto")
        app.after(Run(mode, folder, answers, "\n".join(daemon.log), imports))

    def explained(self, app, zygote, start):
        if zygote == "off" or app.mode == FORK:
            self.assertEqual(("up", ""), (start["state"], start["reason"]))
            return
        self.assertEqual("fallback", start["state"])
        for words in (
            f"not safe to fork: {app.kind} from module app",
            "@keelback.worker_setup",
            "MiB of memory each",
        ):
            self.assertIn(words, start["reason"])

    def ask_all(self, daemon, app):
        answers = [None] * self.CALLS

        def caller(first):
            client = daemon.client()
            for i in range(first, self.CALLS, CALLERS):
                try:
                    reply = client.call(*app.ask(i))
                    answers[i] = reply.json if reply.status == 200 else AssertionError(repr(reply))
                except BaseException as error:
                    answers[i] = error
            client.close()

        callers = [threading.Thread(target=caller, args=(n,)) for n in range(CALLERS)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        return answers


class Reading(_SameAnswers):
    GROUP = "Reading"

    def test_what_was_opened_to_be_read(self):
        self.compare()


class Writing(_SameAnswers):
    GROUP = "Writing"

    def test_what_was_opened_to_be_written_and_what_is_left_at_the_end(self):
        self.compare()


class Sharing(_SameAnswers):
    GROUP = "Sharing"

    def test_processes_threads_pipes_and_memory(self):
        self.compare()


class Settings(_SameAnswers):
    GROUP = "Settings"

    def test_what_the_import_set(self):
        self.compare()


class Numbers(_SameAnswers):
    GROUP = "Numbers"

    def test_random_numbers(self):
        self.compare()


class Given(_SameAnswers):
    GROUP = "Given"

    def test_what_the_configuration_gives(self):
        self.compare()


class LongReading(Reading):
    CALLS = 3000


class LongWriting(Writing):
    CALLS = 3000


class LongSharing(Sharing):
    CALLS = 3000


class LongSettings(Settings):
    CALLS = 3000


class LongNumbers(Numbers):
    CALLS = 3000


if __name__ == "__main__":
    main()
