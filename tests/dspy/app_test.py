"""The DSPy application in one process, on the real dspy: what its functions promise, and what it is made of."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.insert(0, str(ROOT / "python"))

import environment  # noqa: E402
import keelback.apps.dspy as app  # noqa: E402
from fake_lm import FakeLm  # noqa: E402
from keelback.apps.dspy import definitions, models, programs, shared  # noqa: E402

environment.settle()

KEY = "sk-do-not-tell-4711"


class Session:
    def __init__(self, id="ann"):
        self.id, self.state = id, {}

    def moved(self):
        """The session as another worker gets it: through JSON, nothing else."""
        other = Session(self.id)
        other.state = json.loads(json.dumps(self.state))
        return other


class AppTest(unittest.TestCase):
    """Each test has a worker of its own, and a session named ann."""

    def setUp(self):
        app._worker = app._Worker()
        app.load()
        self.enter(Session())

    def enter(self, session):
        self.session = session
        patch = mock.patch.object(app, "_session", lambda: session)
        patch.start()
        self.addCleanup(patch.stop)

    def script(self, *rules, **options):
        return app.configure_lm(kind="scripted", script={"rules": list(rules)}, num_retries=0, **options)


class Programs(AppTest):
    def test_a_program_answers_with_the_types_of_its_signature(self):
        self.script({"match": "France", "answer": {"answer": "Paris", "score": 0.75, "pick": "b", "years": [1, 2]}})
        app.create_program("question: str -> answer: str, score: float, pick: Literal['a', 'b'], years: list[int]", id="qa")
        answer = app.execute_program("qa", {"question": "The capital of France?"})
        self.assertEqual({"answer": "Paris", "score": 0.75, "pick": "b", "years": [1, 2]}, answer["outputs"])
        self.assertGreater(answer["usage"]["prompt_tokens"], 0)
        self.assertIs(float, type(answer["outputs"]["score"]))

    def test_chain_of_thought_gives_its_reasoning_and_react_its_steps(self):
        self.script()
        app.create_program("question -> answer", id="cot", kind="chain_of_thought")
        self.assertTrue(app.execute_program("cot", {"question": "Why?"})["reasoning"])
        app.create_program("question -> answer", id="sum", kind="react", tools=["calculate"])
        answer = app.execute_program("sum", {"question": "What is 12 * (3 + 4)?"})
        self.assertEqual("84", answer["outputs"]["answer"])
        self.assertEqual([("calculate", "84"), ("finish", "Completed.")],
                         [(step["tool"], step["observation"]) for step in answer["steps"]])

    def test_programs_move_with_the_state_of_their_session_and_with_nothing_else(self):
        self.script({"match": "France", "answer": "Paris"})
        app.create_program("question -> answer", id="qa", demos=[{"question": "Italy?", "answer": "Rome"}])
        before = app.execute_program("qa", {"question": "France?"})
        configured = app._worker.shared.read()[1]
        self.enter(self.session.moved())
        app._worker = app._Worker()  # another worker of the pool, which never saw this session
        app._worker.shared.write(configured)
        self.assertEqual(before, app.execute_program("qa", {"question": "France?"}))
        self.assertEqual(2, app.list_programs()[0]["executions"])

    def test_sessions_do_not_see_each_others_programs_though_equal_ones_share_a_module(self):
        self.script()
        app.create_program("question -> answer", id="qa")
        ann = self.session
        self.enter(Session("bob"))
        self.assertEqual([], app.list_programs())
        with self.assertRaisesRegex(app.UnknownProgram, "'qa'"):
            app.execute_program("qa", {"question": "?"})
        app.create_program("question -> answer", id="mine")
        self.assertEqual(1, len(app._worker.built))
        app.reset_session()
        self.enter(ann)
        self.assertEqual(["qa"], [program["program"] for program in app.list_programs()])

    def test_list_info_delete_and_made_up_ids(self):
        app.create_program("a -> b", id="program-1")
        self.assertEqual("program-2", app.create_program("c: int -> d: bool")["program"])
        self.assertEqual(["a: str -> b: str", "c: int -> d: bool"], [p["signature"] for p in app.list_programs()])
        self.assertEqual("int", app.program_info("program-2")["definition"]["inputs"][0]["type"])
        with self.assertRaises(app.ProgramExists):
            app.create_program("x -> y", id="program-1")
        app.create_program("x -> y", id="program-1", replace=True)
        self.assertEqual({"deleted": "program-1"}, app.delete_program("program-1"))
        with self.assertRaises(app.UnknownProgram):
            app.program_info("program-1")
        self.assertEqual({"deleted": 1}, app.reset_session())
        self.assertEqual([], app.list_programs())

    def test_a_session_holds_so_many_programs_and_not_one_more(self):
        for number in range(app.PROGRAMS_MAX):
            app.create_program("a -> b", id=str(number))
        with self.assertRaises(app.TooManyPrograms):
            app.create_program("a -> b", id="one more")
        app.create_program("a -> c", id="0", replace=True)

    def test_a_worker_keeps_so_many_modules_and_not_one_more(self):
        cache = programs.Cache()
        with mock.patch.object(programs, "BUILT_MAX", 3):
            made = [definitions.normalise(f"a{n} -> b") for n in range(4)]
            kept = [cache.get(definition) for definition in made]
            self.assertEqual(3, len(cache))
            self.assertIs(kept[3], cache.get(made[3]))
            self.assertIsNot(kept[0], cache.get(made[0]))

    def test_without_a_session_programs_are_refused_and_run_once_works(self):
        self.script({"match": "France", "answer": "Paris"})
        self.enter(None)
        for refused in (app.list_programs, lambda: app.create_program("a -> b"),
                        lambda: app.execute_program("a", {}), app.reset_session):
            with self.assertRaisesRegex(app.NoSession, "Keelback-Session"):
                refused()
        self.assertEqual({"answer": "Paris"}, app.run_once("question -> answer", {"question": "France?"})["outputs"])
        self.assertIsNone(app.stats()["session"])

    def test_wrong_inputs_are_refused_before_the_model_is_asked(self):
        with FakeLm() as lm:
            app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY)
            app.create_program("question: str, n: int -> answer", id="qa")
            for inputs, word in (({"question": "?"}, "missing: n"), ({"question": "?", "n": 1, "m": 2}, "unknown: m"),
                                 ({"question": "?", "n": "many"}, "integer"), ([], "an object")):
                with self.assertRaisesRegex(programs.BadInput, word):
                    app.execute_program("qa", inputs)
            self.assertEqual(0, lm.report()["requests"])

    def test_memory_does_not_grow_with_calls(self):
        self.script()
        app.create_program("question -> answer", id="qa")
        import dspy
        from dspy.clients.base_lm import GLOBAL_HISTORY
        for number in range(50):
            app.execute_program("qa", {"question": str(number)})
        self.assertEqual(([], [], []), (GLOBAL_HISTORY, app._worker.lm.history, dspy.settings.trace))


class Definitions(unittest.TestCase):
    def test_a_signature_may_be_text_or_an_object(self):
        text = definitions.normalise("question: str, context: list[str] -> answer, score: float")
        fields = {"inputs": ["question", {"name": "context", "type": "list[str]"}],
                  "outputs": [{"name": "answer"}, {"name": "score", "type": "float", "description": ""}]}
        self.assertEqual(text, definitions.normalise(fields))
        self.assertEqual(definitions.digest(text), definitions.digest(json.loads(json.dumps(text))))

    def test_what_is_no_signature_is_refused_and_named(self):
        for signature, word in (
                ("question", "->"), ("a -> b -> c", "->"), ("-> a", "one input"), ("a ->", "one input"), ("a -> a", "twice"),
                ("1a -> b", "'1a'"), ("class -> b", "'class'"), ("_a -> b", "'_a'"), (7, "signature"),
                ({"inputs": ["a"]}, "signature"), ({"inputs": "a", "outputs": ["b"]}, "a list"),
                ({"inputs": [{"nome": "a"}], "outputs": ["b"]}, "nome"),
                (", ".join(f"i{n}" for n in range(definitions.FIELDS_MAX)) + " -> o", "at most")):
            with self.subTest(signature=signature), self.assertRaisesRegex(definitions.BadDefinition, word):
                definitions.normalise(signature)

    def test_a_type_is_from_the_closed_list_and_nothing_is_evaluated_or_imported(self):
        for kind in ("os.path", "__import__('os')", "list[os]", "dict[int, str]", "Literal[x]", "str | int", "list[",
                     "lambda: 0", "List[str]", "(" * 500, "list[" * 500 + "str" + "]" * 500, 7, None):
            with self.subTest(kind=kind), self.assertRaises(definitions.BadDefinition):
                definitions.normalise({"inputs": ["a"], "outputs": [{"name": "b", "type": kind}]})
        with self.assertRaises(definitions.BadDefinition):
            programs.python_type("__import__('os').system('true')")
        for kind in ("str", "Any", "list[dict[str, Optional[int]]]", "Literal['a', 1, True]", "dict", "list"):
            programs.python_type(definitions.canonical_type(kind))

    def test_the_rest_of_a_definition_is_checked_too(self):
        for options, word in (
                ({"kind": "poem"}, "kind"), ({"tools": ["calculate"]}, "only react"), ({"kind": "react", "tools": ["rm"]}, "'rm'"),
                ({"kind": "react", "max_iters": 0}, "max_iters"), ({"max_iters": 3}, "max_iters"),
                ({"demos": [{"a": 1}]}, r"demos\[0\]"), ({"instructions": 5}, "instructions"),
                ({"instructions": "x" * definitions.DEFINITION_MAX}, "bytes")):
            with self.subTest(**options), self.assertRaisesRegex(definitions.BadDefinition, word):
                definitions.normalise("a -> b", **options)
        with self.assertRaisesRegex(definitions.BadDefinition, "reasoning"):
            definitions.normalise("a -> reasoning", kind="chain_of_thought")

    def test_a_program_that_dspy_refuses_fails_when_it_is_created(self):
        with mock.patch.object(app, "_session", Session), self.assertRaises(definitions.BadDefinition):
            app.create_program("a -> model_config")

    def test_the_calculator_computes_and_runs_nothing_else(self):
        calculate = app.tools.find("calculate")
        self.assertEqual(["20", "-2.5", "1", "2"], [calculate(text) for text in ("(2 + 3) * 4", "-5 / 2", "7 % 3", "5 // 2")])
        for text in ("2 ** 99999", "open('x')", "a + 1", "1 +", "1e99 * 100", "9" * 1001, "'a' * 3", "True + 1"):
            with self.subTest(text=text[:20]), self.assertRaises((ValueError, SyntaxError)):
                calculate(text)


class Models(AppTest):
    def test_a_real_server_is_asked_and_each_fault_of_it_is_a_clear_error_of_that_call_only(self):
        with FakeLm({"rules": [{"match": "France", "answer": "Paris"}]}, api_key=KEY) as lm:
            app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0, timeout=0.3)
            app.create_program("question -> answer", id="qa")
            for fault, error in (("429", "LMRateLimitError"), ("500", "LMServerError"), ("reset", "LMTransportError"),
                                 ("hang", "LMT")):
                lm.fault(fault)
                with self.subTest(fault=fault), self.assertRaisesRegex(programs.LmFailed, error):
                    app.execute_program("qa", {"question": "France?"})
                self.assertGreaterEqual(lm.report()["bitten"], 1)
            lm.fault("garbage")
            with self.assertRaisesRegex(Exception, "failed to parse"):
                app.execute_program("qa", {"question": "France?"})
            lm.fault("slow", delay_ms=50)
            self.assertEqual({"answer": "Paris"}, app.execute_program("qa", {"question": "France?"})["outputs"])
            lm.fault("none")
            self.assertEqual({"answer": "Paris"}, app.execute_program("qa", {"question": "France?"})["outputs"])
            info = app.program_info("qa")
            self.assertEqual((2, 5), (info["executions"], info["failures"]))

    def test_a_passing_fault_is_retried_as_often_as_configured(self):
        with FakeLm() as lm:
            app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=2)
            lm.fault("429", count=1)
            self.assertIn("answer", app.run_once("question -> answer", {"question": "?"})["outputs"])
            self.assertEqual((2, 1), (lm.report()["requests"], lm.report()["bitten"]))

    def test_scripted_faults_read_like_real_ones(self):
        self.script({"match": "busy", "fail": "rate_limit"}, {"match": "broken", "fail": "error"},
                    {"match": "late", "fail": "timeout"}, {"match": "odd", "fail": "garbage"})
        for word, error in (("busy", "LMRateLimitError"), ("broken", "LMServerError"), ("late", "LMTimeoutError")):
            with self.subTest(word=word), self.assertRaisesRegex(programs.LmFailed, error):
                app.run_once("question -> answer", {"question": word})
        with self.assertRaisesRegex(Exception, "failed to parse"):
            app.run_once("question -> answer", {"question": "odd"})

    def test_a_hanging_model_is_ended_by_the_interrupt_of_its_call(self):
        self.script({"match": "hang", "fail": "hang"})
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with self.assertRaises(KeyboardInterrupt):
            app.run_once("question -> answer", {"question": "hang"})
        self.assertIn("answer", app.run_once("question -> answer", {"question": "go on"})["outputs"])

    def test_a_new_configuration_is_obeyed_by_the_next_call(self):
        for answer in ("one", "two"):
            self.assertEqual("worker", self.script({"match": ".", "answer": answer})["reach"])
            self.assertEqual({"answer": answer}, app.run_once("question -> answer", {"question": "?"})["outputs"])

    def test_nothing_is_asked_without_a_model(self):
        with self.assertRaisesRegex(models.LmNotConfigured, "configure_lm"):
            app.run_once("question -> answer", {"question": "?"})

    def test_adapters_are_obeyed(self):
        for name in models.ADAPTERS:
            self.script({"match": "France", "answer": "Paris"}, adapter=name)
            with self.subTest(adapter=name):
                self.assertEqual({"answer": "Paris"}, app.run_once("question -> answer", {"question": "France?"})["outputs"])

    def test_a_bad_configuration_is_refused_and_the_old_one_stays(self):
        version = self.script()["version"]
        for given, word in (
                ({}, "model"), ({"model": ""}, "model"), ({"model": "openai/"}, "openai/"), ({"kind": "oracle"}, "kind"),
                ({"model": "openai/x", "api_base": "ftp://h"}, "api_base"), ({"model": "openai/x", "temperature": 9}, "temperature"),
                ({"model": "openai/x", "timeout": 0}, "timeout"), ({"model": "openai/x", "adapter": "smoke"}, "adapter"),
                ({"model": "openai/x", "options": {"api_key": KEY}}, "options"), ({"model": "openai/x", "script": {}}, "script"),
                ({"kind": "scripted", "script": {"rules": [{"match": "("}]}}, r"rules\[0\]"),
                ({"kind": "scripted", "script": {"rule": []}}, "'rule'"),
                ({"kind": "scripted", "script": {"rules": [{"match": ".", "fail": "softly"}]}}, "softly"),
                ({"model": "openai/x", "options": {"x": "y" * shared.SIZE}}, "bytes")):
            with self.subTest(given=str(given)[:60]), self.assertRaisesRegex((ValueError, shared.SharedError), word):
                app.configure_lm(**given)
        self.assertEqual(version, app._worker.shared.version)

    def test_a_key_is_told_to_nobody(self):
        with FakeLm(api_key="another") as lm:
            replies = [app.configure_lm(model="openai/fake", api_base=lm.url.replace("http://", f"http://u:{KEY}@"), api_key=KEY,
                                        num_retries=0, options={"extra_headers": {"x-token": KEY}})]
            replies.append(app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0))
            app.create_program("question -> answer", id="qa")
            with self.assertLogs() as logs, self.assertRaises(programs.LmFailed) as caught:
                __import__("logging").getLogger().warning("there is a log")
                app.execute_program("qa", {"question": "?"})
            told = "".join(traceback.format_exception(None, caught.exception, caught.exception.__traceback__))
            self.assertIn("***", told)  # the server repeats the key in its complaint
            told += json.dumps([replies, app.stats(), app.list_programs(), app.program_info("qa"), self.session.state])
            self.assertNotIn(KEY, told + "".join(logs.output))
            self.assertTrue(app.stats()["lm"]["api_key_set"])

    def test_the_environment_may_hold_the_first_configuration(self):
        given = json.dumps({"kind": "scripted", "script": {"rules": [{"match": ".", "answer": "from outside"}]}})
        app._worker = app._Worker()
        with mock.patch.dict(os.environ, KEELBACK_DSPY_LM=given):
            app.load()
        self.assertEqual({"answer": "from outside"}, app.run_once("question -> answer", {"question": "?"})["outputs"])
        app._worker = app._Worker()
        with mock.patch.dict(os.environ, KEELBACK_DSPY_LM='{"api_key": "%s"' % KEY):
            with self.assertRaises(models.BadModel) as caught:
                app.load()
        self.assertNotIn(KEY, "".join(traceback.format_exception(None, caught.exception, None)))


class SharedMemory(unittest.TestCase):
    def forked(self, work):
        """Runs work() in a forked child; returns its wait status and what it returned, as JSON."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.write(writer, json.dumps(work()).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as file:
            told = file.read()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), json.loads(told) if told else None

    def test_what_one_worker_writes_all_see_and_those_born_later_too(self):
        value = shared.SharedValue()
        self.assertEqual((0, None), value.read())
        self.assertEqual((0, [1, "zygote"]), self.forked(lambda: [value.write({"model": "a"}), value.reach]))
        self.assertEqual((0, [1, {"model": "a"}]), self.forked(value.read))
        self.assertEqual(2, value.write({"model": "b"}))
        self.assertEqual((2, {"model": "b"}), value.read())

    def test_a_writer_killed_at_any_point_of_a_write_damages_nothing(self):
        """The child is killed after its Nth store, for every N until a write survives."""
        value = shared.SharedValue()
        value.write({"model": "old", "fill": "o" * 500})
        survived, stores = None, 0
        while survived is None:
            stores += 1

            def write(left=stores):
                value._map = _KilledAfter(value._map, left)
                value._words = _KilledAfter(value._words, left, value._map)
                return value.write({"model": "new", "fill": "n" * 900})

            status, survived = self.forked(write)
            if survived is None:
                self.assertEqual(-signal.SIGKILL, status)
                # The third store makes the value current; until then the old one is whole.
                self.assertEqual({"model": "old", "fill": "o" * 500} if stores < 3 else {"model": "new", "fill": "n" * 900},
                                 value.read()[1])
                value.write({"model": "old", "fill": "o" * 500})  # the lock died with its holder
        self.assertEqual(4, stores)
        self.assertEqual("new", value.read()[1]["model"])

    def test_readers_meet_whole_values_only_while_others_write(self):
        value = shared.SharedValue()
        value.write(["x" * 10, 0])
        writers = []
        for letter in "abc":
            pid = os.fork()
            if pid == 0:
                for number in range(2000):
                    value.write([letter * (1000 + number), number])
                os._exit(0)
            writers.append(pid)
        seen = set()
        while writers:
            text, number = value.read()[1]
            self.assertEqual(1, len(set(text)))
            self.assertEqual(len(text), 10 if text[0] == "x" else 1000 + number)
            seen.add(text[0])
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                self.assertEqual(0, status)
                writers.remove(pid)
        self.assertEqual(1 + 3 * 2000, value.version)
        self.assertGreater(len(seen), 1)

    def test_the_longest_value_fits_and_one_byte_more_does_not(self):
        value = shared.SharedValue()
        value.write("x" * (shared.VALUE_MAX - 2))
        with self.assertRaisesRegex(shared.SharedError, "bytes"):
            value.write("x" * (shared.VALUE_MAX - 1))
        self.assertEqual((1, "x" * (shared.VALUE_MAX - 2)), value.read())

    def test_a_lock_held_for_ever_is_an_error_and_not_a_hang(self):
        value = shared.SharedValue()
        pid = os.fork()
        if pid == 0:
            value._lock()
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitpid(pid, os.WUNTRACED)
        with mock.patch.object(shared, "_LOCK_WAIT_S", 0.05), self.assertRaisesRegex(shared.SharedError, "holds"):
            value.write(1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.assertEqual(1, value.write(1))

    def test_the_supervisors_memory_is_used_if_it_gives_one_and_a_wrong_one_is_refused(self):
        fd = os.memfd_create("given")
        self.addCleanup(os.close, fd)
        os.ftruncate(fd, shared.SIZE)
        with mock.patch.dict(os.environ, KEELBACK_SHARED_FD=str(fd)):
            one, other = shared.SharedValue(), shared.SharedValue()
            one.write({"model": "a"})
            self.assertEqual(((1, {"model": "a"}), "pool"), (other.read(), other.reach))
        for wrong in ("x", "9999", "0"):
            with mock.patch.dict(os.environ, KEELBACK_SHARED_FD=wrong), self.assertRaises(shared.SharedError):
                shared.SharedValue()


class _KilledAfter:
    """A buffer whose process is killed after `left` stores; two share one count through `other`."""

    def __init__(self, target, left, other=None):
        self.target, self.left, self.other = target, left, other

    def __getitem__(self, key):
        return self.target[key]

    def __setitem__(self, key, data):
        counter = self.other or self
        self.target[key] = data
        counter.left -= 1
        if counter.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Import(unittest.TestCase):
    def run_python(self, code, **env):
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=60,
                                  env={**os.environ, "HOME": home, "PYTHONPATH": str(ROOT / "python"), **env})
            files = [str(path) for path in Path(home).rglob("*") if path.is_file()]
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout, files

    def test_import_and_setup_leave_no_thread_no_socket_and_no_file_so_that_the_zygote_may_fork(self):
        out, files = self.run_python(
            "import os, keelback.apps.dspy as app\n"
            "app.load()\n"
            "print(len(os.listdir('/proc/self/task')))\n"
            "for fd in os.listdir('/proc/self/fd'):\n"
            "    try: print(os.readlink('/proc/self/fd/' + fd))\n"
            "    except OSError: pass\n")
        threads, *opened = out.splitlines()
        self.assertEqual("1", threads)
        self.assertEqual([], [name for name in opened if not name.startswith(("pipe:", "/dev/", "/memfd:keelback-shared", "/proc/"))])
        self.assertEqual([], files)

    def test_a_first_call_of_a_worker_imports_next_to_nothing(self):
        out, _ = self.run_python(
            "import sys, keelback.apps.dspy as app\n"
            f"sys.path.insert(0, {str(ROOT / 'tests' / 'support')!r})\n"
            "from fake_lm import FakeLm\n"
            "app.load()\n"
            "with FakeLm() as lm:\n"
            "    before = set(sys.modules)\n"
            "    app.configure_lm(model='openai/fake', api_base=lm.url, api_key='k')\n"
            "    app.run_once('question -> answer', {'question': '?'})\n"
            "    print(sorted(set(sys.modules) - before))\n")
        self.assertLessEqual(len(json.loads(out.replace("'", '"'))), 3, out)

    def test_served_as_a_file_it_says_why_not(self):
        done = subprocess.run([sys.executable, "-c",
                               "import importlib.util as u\n"
                               f"s = u.spec_from_file_location('dspy', {str(ROOT / 'python/keelback/apps/dspy/__init__.py')!r})\n"
                               "s.loader.exec_module(u.module_from_spec(s))"], text=True, capture_output=True, check=False)
        self.assertIn("keelback.apps.dspy: as a file it would hide DSPy", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
