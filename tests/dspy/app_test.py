"""The DSPy application in one process, on the real dspy: what its functions promise, and what it is made of."""
import asyncio
import contextvars
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
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
from keelback.apps.dspy import definitions, models, programs, shared, tools  # noqa: E402

environment.settle()

KEY = "sk-do-not-tell-4711"
PATIENCE_S = 30.0 * (4 if os.environ.get("KEELBACK_TIMEOUTS") == "extended" else 1)


class Session:
    def __init__(self, id="ann"):
        self.id, self.state = id, {}

    def moved(self):
        """The session as another worker gets it: through JSON, nothing else."""
        other = Session(self.id)
        other.state = json.loads(json.dumps(self.state))
        return other


class AppTest(unittest.IsolatedAsyncioTestCase):
    """Each test has a worker of its own, and a session named ann."""

    def setUp(self):
        app._worker = app._Worker()
        app.load()
        self.enter(Session())

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)  # its warnings of a slow machine are nobody's here

    def enter(self, session):
        self.session = session
        patch = mock.patch.object(app, "_session", lambda: session)
        patch.start()
        self.addCleanup(patch.stop)

    async def script(self, *rules, **options):
        return await app.configure_lm(kind="scripted", script={"rules": list(rules)}, num_retries=0, **options)


class Programs(AppTest):
    async def test_a_program_answers_with_the_types_of_its_signature(self):
        await self.script({"match": "France", "answer": {"answer": "Paris", "score": 0.75, "pick": "b", "years": [1, 2]}})
        await app.create_program("question: str -> answer: str, score: float, pick: Literal['a', 'b'], years: list[int]", id="qa")
        answer = await app.execute_program("qa", {"question": "The capital of France?"})
        self.assertEqual({"answer": "Paris", "score": 0.75, "pick": "b", "years": [1, 2]}, answer["outputs"])
        self.assertGreater(answer["usage"]["prompt_tokens"], 0)
        self.assertIs(float, type(answer["outputs"]["score"]))

    async def test_chain_of_thought_gives_its_reasoning_and_react_its_steps(self):
        await self.script()
        await app.create_program("question -> answer", id="cot", kind="chain_of_thought")
        self.assertTrue((await app.execute_program("cot", {"question": "Why?"}))["reasoning"])
        await app.create_program("question -> answer", id="sum", kind="react", tools=["calculate"])
        answer = await app.execute_program("sum", {"question": "What is 12 * (3 + 4)?"})
        self.assertEqual("84", answer["outputs"]["answer"])
        self.assertEqual([("calculate", "84"), ("finish", "Completed.")],
                         [(step["tool"], step["observation"]) for step in answer["steps"]])

    async def test_programs_move_with_the_state_of_their_session_and_with_nothing_else(self):
        await self.script({"match": "France", "answer": "Paris"})
        await app.create_program("question -> answer", id="qa", demos=[{"question": "Italy?", "answer": "Rome"}])
        before = await app.execute_program("qa", {"question": "France?"})
        configured = app._worker.shared.read()[1]
        self.enter(self.session.moved())
        app._worker = app._Worker()  # another worker of the pool, which never saw this session
        app._worker.shared.write(configured)
        self.assertEqual(before, await app.execute_program("qa", {"question": "France?"}))
        self.assertEqual(2, (await app.list_programs())[0]["executions"])

    async def test_sessions_do_not_see_each_others_programs_though_equal_ones_share_a_module(self):
        await self.script()
        await app.create_program("question -> answer", id="qa")
        ann = self.session
        self.enter(Session("bob"))
        self.assertEqual([], await app.list_programs())
        with self.assertRaisesRegex(app.UnknownProgram, "'qa'"):
            await app.execute_program("qa", {"question": "?"})
        await app.create_program("question -> answer", id="mine")
        self.assertEqual(1, len(app._worker.built))
        await app.reset_session()
        self.enter(ann)
        self.assertEqual(["qa"], [program["program"] for program in await app.list_programs()])

    async def test_list_info_delete_and_made_up_ids(self):
        await app.create_program("a -> b", id="program-1")
        self.assertEqual("program-2", (await app.create_program("c: int -> d: bool"))["program"])
        self.assertEqual(["a: str -> b: str", "c: int -> d: bool"], [p["signature"] for p in await app.list_programs()])
        self.assertEqual("int", (await app.program_info("program-2"))["definition"]["inputs"][0]["type"])
        with self.assertRaises(app.ProgramExists):
            await app.create_program("x -> y", id="program-1")
        await app.create_program("x -> y", id="program-1", replace=True)
        self.assertEqual({"deleted": "program-1"}, await app.delete_program("program-1"))
        with self.assertRaises(app.UnknownProgram):
            await app.program_info("program-1")
        self.assertEqual({"deleted": 1}, await app.reset_session())
        self.assertEqual([], await app.list_programs())

    async def test_a_session_holds_so_many_programs_and_not_one_more(self):
        for number in range(app.PROGRAMS_MAX):
            await app.create_program("a -> b", id=str(number))
        with self.assertRaises(app.TooManyPrograms):
            await app.create_program("a -> b", id="one more")
        await app.create_program("a -> c", id="0", replace=True)

    def test_a_worker_keeps_so_many_modules_and_not_one_more(self):
        cache = programs.Cache()
        with mock.patch.object(programs, "BUILT_MAX", 3):
            made = [definitions.normalise(f"a{n} -> b") for n in range(4)]
            kept = [cache.get(definition) for definition in made]
            self.assertEqual(3, len(cache))
            self.assertIs(kept[3], cache.get(made[3]))
            self.assertIsNot(kept[0], cache.get(made[0]))

    async def test_without_a_session_programs_are_refused_and_run_once_works(self):
        await self.script({"match": "France", "answer": "Paris"})
        self.enter(None)
        for refused in (app.list_programs, lambda: app.create_program("a -> b"),
                        lambda: app.execute_program("a", {}), app.reset_session):
            with self.assertRaisesRegex(app.NoSession, "Keelback-Session"):
                await refused()
        self.assertEqual({"answer": "Paris"}, (await app.run_once("question -> answer", {"question": "France?"}))["outputs"])
        self.assertIsNone((await app.stats())["session"])

    async def test_wrong_inputs_are_refused_before_the_model_is_asked(self):
        with FakeLm() as lm:
            await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY)
            await app.create_program("question: str, n: int -> answer", id="qa")
            for inputs, word in (({"question": "?"}, "missing: n"), ({"question": "?", "n": 1, "m": 2}, "unknown: m"),
                                 ({"question": "?", "n": "many"}, "integer"), ([], "an object")):
                with self.assertRaisesRegex(programs.BadInput, word):
                    await app.execute_program("qa", inputs)
            self.assertEqual(0, lm.report()["requests"])

    async def test_memory_does_not_grow_with_calls(self):
        await self.script()
        await app.create_program("question -> answer", id="qa")
        import dspy
        from dspy.clients.base_lm import GLOBAL_HISTORY
        for number in range(50):
            await app.execute_program("qa", {"question": str(number)})
        self.assertEqual(([], [], []), (GLOBAL_HISTORY, (await app._worker.model()).lm.history, dspy.settings.trace))


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

    async def test_a_program_that_dspy_refuses_fails_when_it_is_created(self):
        with mock.patch.object(app, "_session", Session), self.assertRaises(definitions.BadDefinition):
            await app.create_program("a -> model_config")

    def test_the_calculator_computes_and_runs_nothing_else(self):
        calculate = app.tools.find("calculate")
        self.assertEqual(["20", "-2.5", "1", "2"], [calculate(text) for text in ("(2 + 3) * 4", "-5 / 2", "7 % 3", "5 // 2")])
        for text in ("2 ** 99999", "open('x')", "a + 1", "1 +", "1e99 * 100", "9" * 1001, "'a' * 3", "True + 1"):
            with self.subTest(text=text[:20]), self.assertRaises((ValueError, SyntaxError)):
                calculate(text)


class Models(AppTest):
    async def test_a_real_server_is_asked_and_each_fault_of_it_is_a_clear_error_of_that_call_only(self):
        with FakeLm({"rules": [{"match": "France", "answer": "Paris"}]}, api_key=KEY) as lm:
            await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0, timeout=0.3)
            await app.create_program("question -> answer", id="qa")
            for fault, error in (("429", "LMRateLimitError"), ("500", "LMServerError"), ("reset", "LMTransportError"),
                                 ("hang", "LMT")):
                lm.fault(fault)
                with self.subTest(fault=fault), self.assertRaisesRegex(programs.LmFailed, error):
                    await app.execute_program("qa", {"question": "France?"})
                self.assertGreaterEqual(lm.report()["bitten"], 1)
            lm.fault("garbage")
            with self.assertRaisesRegex(Exception, "failed to parse"):
                await app.execute_program("qa", {"question": "France?"})
            lm.fault("slow", delay_ms=50)
            self.assertEqual({"answer": "Paris"}, (await app.execute_program("qa", {"question": "France?"}))["outputs"])
            lm.fault("none")
            self.assertEqual({"answer": "Paris"}, (await app.execute_program("qa", {"question": "France?"}))["outputs"])
            info = await app.program_info("qa")
            self.assertEqual((2, 5), (info["executions"], info["failures"]))

    async def test_a_passing_fault_is_retried_as_often_as_configured(self):
        with FakeLm() as lm:
            await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=2)
            lm.fault("429", count=1)
            self.assertIn("answer", (await app.run_once("question -> answer", {"question": "?"}))["outputs"])
            self.assertEqual((2, 1), (lm.report()["requests"], lm.report()["bitten"]))

    async def test_scripted_faults_read_like_real_ones(self):
        await self.script({"match": "busy", "fail": "rate_limit"}, {"match": "broken", "fail": "error"},
                    {"match": "late", "fail": "timeout"}, {"match": "odd", "fail": "garbage"})
        for word, error in (("busy", "LMRateLimitError"), ("broken", "LMServerError"), ("late", "LMTimeoutError")):
            with self.subTest(word=word), self.assertRaisesRegex(programs.LmFailed, error):
                await app.run_once("question -> answer", {"question": word})
        with self.assertRaisesRegex(Exception, "failed to parse"):
            await app.run_once("question -> answer", {"question": "odd"})

    async def test_a_hanging_model_is_ended_by_the_cancel_of_its_call(self):
        await self.script({"match": "hang", "fail": "hang"})
        hanging = asyncio.create_task(app.run_once("question -> answer", {"question": "hang"}))
        self.assertIn("answer", (await app.run_once("question -> answer", {"question": "beside it"}))["outputs"])
        self.assertFalse(hanging.done())
        hanging.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await hanging
        self.assertIn("answer", (await app.run_once("question -> answer", {"question": "go on"}))["outputs"])

    async def test_a_new_configuration_is_obeyed_by_the_next_call(self):
        for answer in ("one", "two"):
            self.assertEqual("worker", (await self.script({"match": ".", "answer": answer}))["reach"])
            self.assertEqual({"answer": answer}, (await app.run_once("question -> answer", {"question": "?"}))["outputs"])

    async def test_nothing_is_asked_without_a_model(self):
        with self.assertRaisesRegex(models.LmNotConfigured, "configure_lm"):
            await app.run_once("question -> answer", {"question": "?"})

    async def test_adapters_are_obeyed(self):
        for name in models.ADAPTERS:
            await self.script({"match": "France", "answer": "Paris"}, adapter=name)
            with self.subTest(adapter=name):
                self.assertEqual({"answer": "Paris"}, (await app.run_once("question -> answer", {"question": "France?"}))["outputs"])

    async def test_a_bad_configuration_is_refused_and_the_old_one_stays(self):
        version = (await self.script())["version"]
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
                await app.configure_lm(**given)
        self.assertEqual(version, app._worker.shared.version)

    async def test_a_key_is_told_to_nobody(self):
        with FakeLm(api_key="another") as lm:
            replies = [await app.configure_lm(model="openai/fake", api_base=lm.url.replace("http://", f"http://u:{KEY}@"), api_key=KEY,
                                        num_retries=0, options={"extra_headers": {"x-token": KEY}})]
            replies.append(await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0))
            await app.create_program("question -> answer", id="qa")
            with self.assertLogs() as logs, self.assertRaises(programs.LmFailed) as caught:
                __import__("logging").getLogger().warning("there is a log")
                await app.execute_program("qa", {"question": "?"})
            told = "".join(traceback.format_exception(None, caught.exception, caught.exception.__traceback__))
            self.assertIn("***", told)  # the server repeats the key in its complaint
            told += json.dumps([replies, await app.stats(), await app.list_programs(), await app.program_info("qa"), self.session.state])
            self.assertNotIn(KEY, told + "".join(logs.output))
            self.assertTrue((await app.stats())["lm"]["api_key_set"])

    def test_the_environment_may_hold_the_first_configuration(self):
        given = json.dumps({"kind": "scripted", "script": {"rules": [{"match": ".", "answer": "from outside"}]}})
        app._worker = app._Worker()
        with mock.patch.dict(os.environ, KEELBACK_DSPY_LM=given):
            app.load()
        answer = asyncio.run(app.run_once("question -> answer", {"question": "?"}))
        self.assertEqual({"answer": "from outside"}, answer["outputs"])
        app._worker = app._Worker()
        with mock.patch.dict(os.environ, KEELBACK_DSPY_LM='{"api_key": "%s"' % KEY):
            with self.assertRaises(models.BadModel) as caught:
                app.load()
        self.assertNotIn(KEY, "".join(traceback.format_exception(None, caught.exception, None)))


class Concurrent(AppTest):
    """Many calls at once on one loop. Each runs in a context of its own, as in a worker, and has the session that it finds there."""

    def setUp(self):
        super().setUp()
        self.current = contextvars.ContextVar("session", default=None)
        patch = mock.patch.object(app, "_session", self.current.get)
        patch.start()
        self.addCleanup(patch.stop)

    def begin(self, session, function, *args, **kwargs):
        """The task of a call."""
        context = contextvars.copy_context()
        context.run(self.current.set, session)
        return context.run(asyncio.create_task, function(*args, **kwargs))

    async def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), end)
            await asyncio.sleep(0.002)

    async def sessions(self, count):
        """Each has a program "qa" of one of the three kinds."""
        sessions = [Session(f"s{number}") for number in range(count)]
        for number, session in enumerate(sessions):
            await self.begin(session, app.create_program, "question -> answer", id="qa",
                             kind=definitions.KINDS[number % len(definitions.KINDS)])
        return sessions

    def ask(self, session, question="Why?"):
        return self.begin(session, app.execute_program, "qa", {"question": question})

    async def test_all_wait_for_the_model_at_once_and_each_gets_what_it_would_get_alone(self):
        """Answer, reasoning, steps and usage; no two of them ask the same."""
        with FakeLm() as lm:
            await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0)
            sessions = await self.sessions(24)
            questions = ["word " * (1 + number) + "?" for number in range(24)]
            alone = [await self.ask(session, question) for session, question in zip(sessions, questions)]
            asked = [answer["usage"]["prompt_tokens"] for answer in alone[::3]]  # of one kind; each question has three words more
            self.assertEqual([asked[0] + 3 * number for number in range(8)], asked)
            lm.fault("hold")
            calls = [self.ask(session, question) for session, question in zip(sessions, questions)]
            await self.until(lambda: lm.report()["open"] == 24)
            self.assertFalse(any(call.done() for call in calls))
            lm.fault("none")
            self.assertEqual(alone, await asyncio.gather(*calls))
        self.assertEqual([(2, 0)] * 24, [(held["executions"], held["failures"]) for held in (
            session.state["dspy"]["programs"]["qa"] for session in sessions)])
        import dspy
        from dspy.clients.base_lm import GLOBAL_HISTORY
        model = await app._worker.model()
        self.assertEqual(([], [], [], None), (GLOBAL_HISTORY, model.lm.history, dspy.settings.trace, dspy.settings.lm))

    async def test_a_neighbours_failure_is_its_own(self):
        with FakeLm() as lm:
            await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0)
            sessions = await self.sessions(12)
            lm.fault("500", match="odd")
            calls = [self.ask(session, ("odd", "even")[number % 2]) for number, session in enumerate(sessions)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            self.assertEqual([programs.LmFailed, dict] * 6, [type(end) for end in ended])
            self.assertEqual({"answer to: even"}, {end["outputs"]["answer"] for end in ended[1::2]})
            self.assertEqual([1, 0] * 6, [session.state["dspy"]["programs"]["qa"]["failures"] for session in sessions])

    async def test_a_neighbours_cancel_is_its_own_and_lets_go_of_the_model(self):
        with FakeLm() as lm:
            await app.configure_lm(model="openai/fake", api_base=lm.url, api_key=KEY, num_retries=0)
            sessions = await self.sessions(6)
            lm.fault("hold")
            calls = [self.ask(session) for session in sessions]
            await self.until(lambda: lm.report()["open"] == 6)
            for call in calls[::2]:
                call.cancel()
            await self.until(lambda: lm.report()["open"] == 3)
            lm.fault("none")
            ended = await asyncio.gather(*calls, return_exceptions=True)
            self.assertEqual([asyncio.CancelledError, dict] * 3, [type(end) for end in ended])
            again = await asyncio.gather(*map(self.ask, sessions))
            self.assertEqual(["answer to: Why?"] * 6, [answer["outputs"]["answer"] for answer in again])

    async def test_calls_that_have_begun_end_with_the_model_they_began_with_and_then_it_is_closed(self):
        with FakeLm({"rules": [{"match": ".", "answer": "old"}]}) as old, FakeLm({"rules": [{"match": ".", "answer": "new"}]}) as new:
            sessions = await self.sessions(8)
            await app.configure_lm(model="openai/old", api_base=old.url, api_key=KEY, num_retries=0)
            old.fault("hold")
            calls = [self.ask(session) for session in sessions[:4]]
            await self.until(lambda: old.report()["open"] == 4)
            await app.configure_lm(model="openai/new", api_base=new.url, api_key=KEY, num_retries=0, adapter="json")
            after = await asyncio.gather(*map(self.ask, sessions[4:]))
            self.assertEqual(["new"] * 4, [answer["outputs"]["answer"] for answer in after])
            self.assertEqual(4, old.report()["connections"])
            old.fault("none")
            self.assertEqual(["old"] * 4, [answer["outputs"]["answer"] for answer in await asyncio.gather(*calls)])
            await self.until(lambda: old.report()["connections"] == 0)

    def sum_of(self, session):
        """A call of a program that uses the tool `calculate`."""
        return self.begin(session, app.run_once, "question -> answer", {"question": "What is 6 * 7?"}, kind="react", tools=["calculate"])

    async def test_a_tool_that_blocks_delays_its_own_call_only_and_a_cancelled_call_ends_with_it(self):
        entered, may_go, seen = threading.Event(), threading.Event(), []
        self.addCleanup(may_go.set)

        def calculate(expression: str) -> str:
            """Computes, slowly."""
            entered.set()
            may_go.wait(PATIENCE_S)
            seen.append((self.current.get().id, expression))
            return "42"

        await self.script()
        ann, bob = await self.sessions(2)
        with mock.patch.dict(tools._tools, calculate=calculate):
            call = self.sum_of(ann)
            await self.until(entered.is_set)
            self.assertEqual("answer to: Why?", (await self.ask(bob))["outputs"]["answer"])
            call.cancel()
            self.assertEqual("answer to: Why?", (await self.ask(bob))["outputs"]["answer"])
            call.cancel()  # as a worker does while the grace lasts
            self.assertEqual("answer to: Why?", (await self.ask(bob))["outputs"]["answer"])
            self.assertFalse(call.done())
            may_go.set()
            with self.assertRaises(asyncio.CancelledError):
                await call
            self.assertEqual([(ann.id, "6 * 7")], seen)
            self.assertEqual("42", (await self.sum_of(bob))["outputs"]["answer"])

    async def test_a_tool_may_be_async(self):
        entered = asyncio.Event()

        async def calculate(expression: str) -> str:
            """Computes, for ever."""
            entered.set()
            if self.current.get() is None:
                await asyncio.sleep(PATIENCE_S)
            return "42"

        await self.script()
        with mock.patch.dict(tools._tools, calculate=calculate):
            self.assertEqual("42", (await self.sum_of(Session()))["outputs"]["answer"])
            entered.clear()
            call = self.sum_of(None)
            await entered.wait()
            call.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await call

    async def test_a_tool_that_fails_is_an_observation_of_the_program(self):
        def calculate(expression: str) -> str:
            """Computes nothing."""
            raise ZeroDivisionError("no")

        await self.script()
        with mock.patch.dict(tools._tools, calculate=calculate):
            steps = (await self.sum_of(None))["steps"]
        self.assertIn("ZeroDivisionError", steps[0]["observation"])


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
            value._try_lock(0)
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitpid(pid, os.WUNTRACED)
        for write in (value.write, lambda text: asyncio.run(value.write_async(text))):
            with mock.patch.object(shared, "_LOCK_WAIT_S", 0.05), self.assertRaisesRegex(shared.SharedError, "holds"):
                write(1)
        self.assertEqual(1, asyncio.run(self.while_the_holder_dies(value, pid)))
        self.assertEqual(2, value.write(1))

    async def while_the_holder_dies(self, value, pid):
        """The loop goes on while write_async() waits for the lock."""
        writing = asyncio.create_task(value.write_async(1))
        for _ in range(3):
            await asyncio.sleep(0)
        self.assertFalse(writing.done())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return await writing

    def test_writers_of_one_loop_do_not_overwrite_each_other(self):
        value = shared.SharedValue()

        async def write_all():
            return await asyncio.gather(*(value.write_async(number) for number in range(50)))

        self.assertEqual(list(range(1, 51)), sorted(asyncio.run(write_all())))

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
            "import os, threading, time, keelback.apps.dspy as app\n"
            "app.load()\n"
            "print(threading.active_count())\n"
            # The kernel lists a thread until a moment after join() returns. The zygote waits for that, too.
            "until = time.monotonic() + 10\n"
            "while len(os.listdir('/proc/self/task')) > 1 and time.monotonic() < until: time.sleep(0.001)\n"
            "print(len(os.listdir('/proc/self/task')))\n"
            "for fd in os.listdir('/proc/self/fd'):\n"
            "    try: print(os.readlink('/proc/self/fd/' + fd))\n"
            "    except OSError: pass\n")
        python_threads, threads, *opened = out.splitlines()
        self.assertEqual(("1", "1"), (python_threads, threads))
        self.assertEqual([], [name for name in opened if not name.startswith(("pipe:", "/dev/", "/memfd:keelback-shared", "/proc/"))])
        self.assertEqual([], files)

    def test_a_first_call_of_a_worker_imports_next_to_nothing(self):
        out, _ = self.run_python(
            "import asyncio, sys, keelback.apps.dspy as app\n"
            f"sys.path.insert(0, {str(ROOT / 'tests' / 'support')!r})\n"
            "from fake_lm import FakeLm\n"
            "app.load()\n"
            "async def first(lm):\n"
            "    await app.configure_lm(model='openai/fake', api_base=lm.url, api_key='k')\n"
            "    await app.run_once('question -> answer', {'question': '?'})\n"
            "with FakeLm() as lm:\n"
            "    before = set(sys.modules)\n"
            "    asyncio.run(first(lm))\n"
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
