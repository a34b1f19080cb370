"""Registration, signatures, and finding the application."""

import functools
import inspect
import unittest
from unittest import mock

import supervisor  # noqa: F401  (finds the package)

import keelback
from keelback import functions
from keelback.functions import BadApplication, Function
from keelback.schemas import Schemas


class Registered(unittest.TestCase):
    def setUp(self):
        patch = mock.patch.dict(functions._functions, clear=True)
        patch.start()
        self.addCleanup(patch.stop)

    def test_the_decorator_returns_the_function_itself(self):
        @keelback.function
        def plain(a):
            return a + 1

        @keelback.function(idempotent=True, timeout=5, max_workers=2, interruptible=True,
                           name="other")
        def renamed():
            return 3

        self.assertEqual((2, 3), (plain(1), renamed()))
        self.assertEqual(["plain", "other"], list(functions.table()))
        described = functions.table()["other"].describe(Schemas())
        options = ("idempotent", "timeout", "max_workers", "interruptible")
        self.assertEqual([True, 5.0, 2, True], [described[option] for option in options])
        self.assertIs(False, functions.table()["plain"].describe(Schemas())["interruptible"])

    def test_hello_describes_parameters(self):
        def every(a, /, b: int, *rest, c: "list[str]" = None, **more) -> None:
            """Every kind of parameter."""

        described = Function("every", every).describe(Schemas())
        self.assertEqual("Every kind of parameter.", described["doc"])
        self.assertEqual([
            {"name": "a", "kind": "positional_only", "required": True, "type": None},
            {"name": "b", "kind": "positional_or_keyword", "required": True, "type": "int", "schema": {"type": "integer"}},
            {"name": "rest", "kind": "var_positional", "required": False, "type": None},
            {"name": "c", "kind": "keyword_only", "required": False, "type": "list[str]",
             "schema": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}},
            {"name": "more", "kind": "var_keyword", "required": False, "type": None},
        ], described["params"])

    def test_kinds_of_functions_are_told_apart(self):
        async def coroutine(): ...
        async def async_items(): yield 1
        def items(): yield 1
        def plain(): ...

        class Callable:
            async def __call__(self): ...

        kinds = {f: (Function("f", f).is_async, Function("f", f).is_stream)
                 for f in (coroutine, async_items, items, plain, functools.partial(coroutine), Callable())}
        self.assertEqual([(True, False), (True, True), (False, True), (False, False), (True, False), (True, False)],
                         list(kinds.values()))
        self.assertEqual((False, True), (Function("f", plain, stream=True).is_async, Function("f", plain, stream=True).is_stream))
        with self.assertRaises(BadApplication):
            Function("f", items, stream=False)

    def test_wrong_options_are_refused_where_they_stand(self):
        for options in ({"timeout": 0}, {"timeout": -1}, {"timeout": "5s"}, {"timeout": True}, {"timeout": float("inf")},
                        {"max_workers": -1}, {"max_workers": 1.5}, {"idempotent": "yes"}, {"name": ""}, {"name": "a/b"},
                        {"interruptible": 1}, {"interruptible": None},
                        {"name": "x" * 257}, {"name": "a\nb"}):
            with self.assertRaises((ValueError, TypeError, BadApplication), msg=options):
                keelback.function(**options)(lambda: None)
        self.assertEqual({}, functions.table())

    def test_concurrency_is_a_number_of_calls(self):
        for given, announced in ((None, 1), (1, 1), (2, 2), (1024, 1024)):
            with mock.patch.dict(functions._functions, clear=True):
                keelback.function(concurrency=given)(len)
                self.assertEqual(announced, functions.table()["len"].describe(Schemas())["concurrency"])
        for given in (0, -1, 1025, 2.0, "8", True, False):
            with self.assertRaisesRegex(ValueError, "concurrency=.* from 1 to 1024, not"):
                keelback.function(concurrency=given)(len)
        self.assertEqual({}, functions.table())

    def test_two_functions_of_one_name_are_refused_and_one_twice_is_not(self):
        def twice():
            return 1

        keelback.function(twice)
        keelback.function(twice)
        with self.assertRaises(BadApplication) as caught:
            keelback.function(name="twice")(len)
        self.assertIn("twice", str(caught.exception))


class Binding(unittest.TestCase):
    """`bind` accepts and refuses exactly what the function's own signature does."""

    def test_agrees_with_inspect_on_every_small_call(self):
        def no(): ...
        def a(x): ...
        def b(x, y=1): ...
        def c(x, /, y): ...
        def d(*rest): ...
        def e(**more): ...
        def f(x, *, y): ...
        def g(x, /, y=2, *rest, z, **more): ...
        def h(x=1, /): ...
        def i(*, y=1): ...

        @functools.wraps(c)
        def wrapped(*args, **kwargs): ...

        calls = [((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((), {"x": 1}), ((), {"y": 1}), ((1,), {"y": 1}), ((1,), {"x": 1}),
                 ((), {"x": 1, "y": 2}), ((1,), {"z": 1}), ((1, 2, 3), {"z": 1}), ((1,), {"y": 1, "z": 2, "w": 3})]
        for target in (no, a, b, c, d, e, f, g, h, i, wrapped, functools.partial(b, y=3)):
            bind, signature = Function("f", target).bind, inspect.signature(target)
            for args, kwargs in calls:
                expected = actual = True
                try:
                    signature.bind(*args, **kwargs)
                except TypeError:
                    expected = False
                try:
                    bind(*args, **kwargs)
                except TypeError:
                    actual = False
                self.assertEqual(expected, actual, (inspect.getsource(target) if inspect.isfunction(target) else target, args, kwargs))

    def test_the_message_is_pythons_own(self):
        def greet(name): ...

        with self.assertRaises(TypeError) as caught:
            Function("greet", greet).bind(nome="Ada")
        self.assertIn("greet() got an unexpected keyword argument 'nome'", str(caught.exception))
        with self.assertRaises(TypeError):
            Function("not an identifier", greet).bind()

    def test_defaults_and_annotations_that_cannot_be_written_as_code_do_no_harm(self):
        def odd(a: object() = object(), *, b: "not code ((" = lambda: 1): ...  # noqa: B008, F722

        Function("odd", odd).bind()
        Function("odd", odd).describe(Schemas())

    def test_a_function_without_a_signature_takes_anything(self):
        class NoSignature:
            __signature__ = "nonsense"

            def __call__(self, *args):
                return args

        Function("f", NoSignature()).bind(1, b=2)


if __name__ == "__main__":
    unittest.main()
