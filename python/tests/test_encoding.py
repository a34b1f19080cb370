"""JSON of arguments and results: the meaning of the standard library, and messages that find the fault."""

import collections
import concurrent.futures
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import textwrap
import threading
import types
import unittest
import uuid

import supervisor  # which finds the package

import keelback
from keelback import conversions, encoding
from keelback.decoding import ArgumentError
from keelback.encoding import ResultError, decode, encode, encode_within

NUMPY = supervisor.python_with("numpy")
PYDANTIC = supervisor.python_with("pydantic")


class Decode(unittest.TestCase):
    def test_agrees_with_the_standard_library_on_every_text(self):
        texts = ['1', ' 1', '1 ', '\n[1, 2]\t', '{"a": {"b": [null, true, false, 1.5e3, "x\\u00e9"]}}', '"\\ud83d\\ude00"', '[]', '{}',
                 '""', '-0', '1e300', '5e-324', '1e-999', '', ' ', '{', '[1,]', '{"a" 1}', '1 2', 'nul', '"abc', '{"a":1}x',
                 '\ufeff1', '[1]\x00', '"\x01"', "{'a':1}", 'Nan', '[1]\n', '\t{"a":1}', '{"a":1}\r\n', '{"a" :\n1}', '{"a:b":"c:d"}', '["{:"]', '{"\\":":1}',
                 '{"a":{},"b":[{}]}', '{"u":"\\ud800"}', '"\\ud83d\\ude00\\ud83d"', '01', '+1', '.5', '1.', '"\\x"', '[1 2]']
        for text in texts:
            try:
                expected = json.loads(text)
            except ValueError as error:
                with self.assertRaises(ValueError, msg=text) as caught:
                    decode(text.encode())
                self.assertEqual(str(error), str(caught.exception), text)
            else:
                self.assertEqual(repr(expected), repr(decode(text.encode())), text)

    def refused(self, text, *words):
        with self.assertRaises(ArgumentError, msg=text[:80]) as caught:
            decode(text.encode())
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertEqual([1], decode(b"[1]"))

    def test_refuses_numbers_that_are_none_and_names_the_place(self):
        self.refused("NaN", "arguments is NaN")
        self.refused('{"value": -Infinity}', "arguments['value'] is -Infinity")
        self.refused('{"rows": [[0, 1], [2, NaN]]}', "arguments['rows'][1][1] is NaN")
        self.refused(" [Infinity]", "arguments[0] is Infinity")
        for number in ("1e400", "-1E+400", "1.5e0309", "2e308", "1" * 400 + ".0", "-" + "9" * 310 + "e0"):
            for text in (f"[{number}]", f'{{"a": {{"b": {number}}}}}', json.dumps([0.5] * 300)[:-1] + f", {number}]",
                         json.dumps({"text": "words " * 100, "n": 1})[:-1] + f', "x": {number}}}'):
                self.refused(text, number[:40], "beyond a 64-bit float")
        for number in ("1e308", "1.7976931348623157e308", "1e-400", "9" * 308 + ".0"):
            self.assertEqual([float(number)], decode(f"[{number}]".encode()))
            self.assertEqual(float(number), decode((json.dumps([0.5] * 300)[:-1] + f", {number}]").encode())[-1])

    @unittest.skipUnless(hasattr(sys, "get_int_max_str_digits"), "this Python reads integers of any length")
    def test_refuses_an_integer_that_python_does_not_read(self):
        self.refused('{"n": [' + "1" * 5000 + "]}", "arguments['n'][0]", "5000 digits")
        self.refused("[0, -" + "1" * 5000 + "]", "arguments[1]", "5000 digits")
        self.assertEqual(10**4299, decode(b"1" + b"0" * 4299))

    def test_refuses_a_key_that_is_there_twice_and_names_it(self):
        for text, place in (
            ('{"value":1,"value":2}', "arguments has"),
            ('{"value":1,"value":1}', "arguments has"),
            ('{"value":1, "a":2, "value" : 3}', "arguments has"),
            ('{"\\u0076alue":1,"value":2}', "arguments has"),
            ('{"value":"","value":"a:b"}', "arguments has"),
            ('{"value":1,"value":"\\u003a"}', "arguments has"),
            ('{"value":"\\u003a","value":1}', "arguments has"),
            ('{"value":{},"value":{"x":1}}', "arguments has"),
            ('[{"a":[{"value":1,"value":2}]}]', "arguments[0]['a'][0] has"),
            ('{"a":{"value":1,"value":2,"b":{"c":1,"d":2}}}', "arguments['a'] has"),
            (json.dumps({"text": "word: " * 100})[:-1] + ',"value":1,"value":2}', "arguments has"),
            (json.dumps([{"id": i} for i in range(100)])[:-1] + ',{"value":1,"value":2}]', "arguments[100] has"),
            (json.dumps({"list": [0.5] * 200}, indent=1)[:-1] + ',"value":1,"value":2}\n', "arguments has"),
        ):
            self.refused(text, place, 'the key "value" twice')
        self.refused('{"":1,"":2}', 'the key "" twice')
        self.assertEqual({"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}, decode(b'{"a":{"a":1},"b":[{"a":2},{"a":3}]}'))

    def test_refuses_exactly_what_a_slow_reader_refuses_on_random_texts(self):
        source = random.Random(11)
        words = ['"a"', '"b"', '"a:b"', '"\\":"', '"\\u003a"', '"x, y"', '"e400"', '"{"', '""']
        numbers = ["0", "-1", "1.5", "1e3", "1E+5", "2.5e-310", "1e400", "-1e999", "NaN", "1e308", "12345678901234567890"]

        def text(depth):
            space = lambda: source.choice(("", "", "", " ", "\n "))
            kind = source.randrange(10 if depth else 6)
            if kind < 3:
                return source.choice(numbers[:-1] if source.random() < 0.2 else numbers[:6])
            if kind < 6:
                return source.choice(words) if source.random() < 0.95 else '"' + "prose: and more. " * 30 + '"'
            inner = [text(depth - 1) for _ in range(source.randrange(5))]
            if kind < 8:
                return "[" + ("," + space()).join(inner) + "]"
            keys = source.sample(words, len(inner)) if source.random() < 0.9 else [source.choice(words) for _ in inner]
            return "{" + ",".join(f"{space()}{key}{space()}:{space()}{value}" for key, value in zip(keys, inner)) + space() + "}"

        def slow(written):
            bad = []
            def pairs(found):
                bad.extend([1] * (len(found) != len(dict(found))))
                return dict(found)
            value = json.loads(written, object_pairs_hook=pairs, parse_constant=bad.append,
                               parse_float=lambda n: float(n) if math.isfinite(float(n)) else bad.append(n))
            return None if bad else repr(value)

        refused = 0
        for round in range(4000):
            written = text(4)
            if round % 10 == 0:  # a large one, of many numbers
                written = "[" + ",".join([written] + ["0.125"] * 200) + "]"
            expected = slow(written)
            if expected is None:
                refused += 1
                with self.assertRaises(ArgumentError, msg=written):
                    decode(written.encode())
            else:
                self.assertEqual(expected, repr(decode(written.encode())), written)
        self.assertTrue(200 < refused < 3000, refused)

    def test_refuses_what_is_not_utf8(self):
        for data in (b'"\xff"', '"é"'.encode("latin-1"), b'"\xed\xa0\x80"'):
            with self.assertRaises(UnicodeDecodeError):
                decode(data)

    def test_refuses_what_is_nested_too_deeply_and_goes_on(self):
        with self.assertRaises(RecursionError):
            decode(b"[" * 200_000)
        self.assertEqual([1], decode(b"[1]"))


class Encode(unittest.TestCase):
    def test_agrees_with_the_standard_library_on_random_values(self):
        source = random.Random(7)

        def value(depth):
            kind = source.randrange(9 if depth else 6)
            if kind == 0:
                return source.choice((None, True, False))
            if kind == 1:
                return source.randrange(-(10**20), 10**20)
            if kind == 2:
                return source.choice((0.0, -0.0, 1e300, 5e-324, source.random()))
            if kind in (3, 4, 5):
                return "".join(source.choice('ab"\\/\n\x00\x1f\x7fé€😀\u2028') for _ in range(source.randrange(8)))
            if kind == 6:
                return [value(depth - 1) for _ in range(source.randrange(4))]
            if kind == 7:
                return tuple(value(depth - 1) for _ in range(source.randrange(4)))
            keys = (lambda: source.choice(("k", "é", 1, -2, 1.5, True, None, "")))
            return {keys(): value(depth - 1) for _ in range(source.randrange(4))}

        for _ in range(2000):
            wanted = value(4)
            self.assertEqual(json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).encode(), encode(wanted))
            self.assertEqual(json.loads(json.dumps(wanted)), decode(encode(wanted)))

    def test_writes_subclasses_as_the_standard_library_does(self):
        class Colour(enum.IntEnum):
            RED = 3

        class Text(str):
            pass

        point = collections.namedtuple("point", "x y")
        for value in (Colour.RED, [Text("é")], point(1, 2), collections.OrderedDict(a=1), Text("x"), True):
            self.assertEqual(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), encode(value))

    def test_a_lone_surrogate_survives_as_an_escape(self):
        self.assertEqual("\ud800", json.loads(encode("\ud800")))
        self.assertEqual({"é\ud800": 1}, json.loads(encode({"é\ud800": 1})))


@dataclasses.dataclass
class Row:
    a: object
    more: object = None


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Model:
    """As pydantic's."""

    def __init__(self, plain, json=None):
        self.plain, self.json = plain, json

    def model_dump(self, mode="python"):
        if mode == "json" and self.json is None:
            raise ValueError("not as JSON")
        return self.json if mode == "json" else self.plain


class Conversions(unittest.TestCase):
    def test_everyday_types_are_written_in_jsons_usual_form(self):
        utc = datetime.timezone.utc
        for value, expected in (
            (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
            (datetime.datetime(2026, 1, 2, 3, 4, 5, 6000, utc), "2026-01-02T03:04:05.006000+00:00"),
            (datetime.date(2026, 1, 2), "2026-01-02"), (datetime.time(3, 4), "03:04:00"),
            (datetime.timedelta(days=1, hours=2, seconds=3.5), "P1DT2H3.5S"), (datetime.timedelta(0), "PT0S"),
            (datetime.timedelta(seconds=-90), "-PT1M30S"), (datetime.timedelta(days=2), "P2D"),
            (datetime.timedelta(microseconds=1), "PT0.000001S"),
            (decimal.Decimal("1.10"), "1.10"), (decimal.Decimal("1E+3"), "1E+3"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), (pathlib.Path("/x/y"), "/x/y"),
            (pathlib.PureWindowsPath("c:/x"), "c:\\x"), (Colour.RED, "red"), (Colour.PAIR, [1, 2]),
            (collections.deque([1]), [1]), (types.MappingProxyType({"a": 1}), {"a": 1}), (ipaddress.ip_address("::1"), "::1"),
            ({3, 1, 2}, [1, 2, 3]), (frozenset("b"), ["b"]), (Row(1, Row("é")), {"a": 1, "more": {"a": "é", "more": None}}),
            (Model({"a": 1}, {"a": "json"}), {"a": "json"}), (Model({"at": datetime.date(2026, 1, 2)}), {"at": "2026-01-02"}),
            (Row({Colour.RED: {datetime.date(2026, 1, 2): uuid.UUID(int=0)}}),
             {"a": {"red": {"2026-01-02": "00000000-0000-0000-0000-000000000000"}}, "more": None}),
        ):
            self.assertEqual(expected, json.loads(encode(value)), value)
            self.assertEqual({"x": [expected]}, json.loads(encode({"x": [value]})), value)
            self.assertEqual(encode([value]), encoding.encode_with([value], lambda: conversions.converted))

    def test_keys_that_are_no_strings_have_jsons_usual_text(self):
        self.assertEqual(b'{"1":1,"2.5":2,"null":3}', encode({1: 1, 2.5: 2, None: 3}))
        self.assertEqual(b'{"false":1,"7":[{"8":9}]}', encode({False: 1, 7: [{8: 9}]}))
        day = datetime.date(2026, 1, 2)
        self.assertEqual({"2026-01-02": {"red": 1}, "7": 2}, json.loads(encode({day: {Colour.RED: 1}, 7: 2})))
        self.assertEqual({"1": 1, "2": 2}, json.loads(encode({1: 1, "2": 2})), "mixed keys that do not collide")
        self.assertEqual(["1", "2", {"3": 4}], json.loads(encode(["1", "2", {"3": 4}])))

    def test_what_has_no_number_is_no_text_either(self):
        for value in (decimal.Decimal("NaN"), decimal.Decimal("-Infinity")):
            with self.assertRaisesRegex(ResultError, r"result\['x'\] is of type decimal.Decimal"):
                encode_within({"x": value}, 100)

    def test_what_a_model_would_change_is_not_changed(self):
        for plain, written in (([math.nan], [None]), ({1: 1, "1": 2}, {"1": 2}), ([b"abc"], ["abc"])):
            with self.assertRaises(ResultError, msg=plain):
                encode_within(Model({"a": plain}, {"a": written}), 1000)
        self.assertEqual(b'{"a":"own form"}', encode(Model({"a": datetime.date(2026, 1, 2)}, {"a": "own form"})))

    @unittest.skipUnless(PYDANTIC, "no interpreter with pydantic")
    def test_models_of_pydantic(self):
        program = """
            import datetime, decimal, json, math, typing, uuid
            import pydantic
            from keelback.encoding import ResultError, encode, encode_within
            class Inner(pydantic.BaseModel):
                when: datetime.datetime
                price: decimal.Decimal
                secret: pydantic.SecretStr
                url: pydantic.HttpUrl
            class Model(pydantic.BaseModel):
                inner: Inner
                any: typing.Any = None
                short: datetime.date = datetime.date(2026, 1, 2)
                @pydantic.field_serializer("short", when_used="json")
                def as_text(self, value): return value.strftime("%d.%m.%Y")
            inner = Inner(when="2026-01-02T00:00:00Z", price="1.10", secret="x", url="http://a.b/c")
            written = {"when": "2026-01-02T00:00:00Z", "price": "1.10", "secret": "**********", "url": "http://a.b/c"}
            assert json.loads(encode([Model(inner=inner, any={1: {2}})])) == [{"inner": written, "any": {"1": [2]}, "short": "02.01.2026"}]
            assert json.loads(encode([inner.secret, inner.url])) == ["**********", "http://a.b/c"]
            class Root(pydantic.RootModel): root: list[int]
            assert encode(Root([1])) == b"[1]"
            for any, place in (([1.0, math.nan], "result['any'][1] is nan"), ({1: 1, "1": 2}, "result['any'] has the keys 1 and '1'"),
                               (b"abc", "result['any'] is of type bytes")):
                try:
                    print(encode_within(Model(inner=inner, any=any), 1000))
                except ResultError as error:
                    assert str(error).startswith(place), error
                else:
                    raise AssertionError(any)
        """
        done = subprocess.run([PYDANTIC, "-c", textwrap.dedent(program)], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": os.path.join(supervisor.ROOT, "python")})
        self.assertEqual((0, ""), (done.returncode, done.stderr[-2000:]))

    def test_a_cycle_through_conversions_is_an_error(self):
        row = Row(1)
        row.more = [row]
        with self.assertRaisesRegex(ResultError, r"result\['more'\]\[0\] contains itself"):
            encode_within(row, 100)

        class Endless:
            def model_dump(self, mode=""):
                return Endless()

        with self.assertRaises(ResultError):
            encode_within(Endless(), 100)
        self.assertEqual(b"[1]", encode([1]))


class Encoders(unittest.TestCase):
    def setUp(self):
        self.addCleanup(conversions._users.clear)
        self.addCleanup(conversions._cache.clear)

    def test_an_encoder_writes_its_type_and_subclasses_before_anything_else(self):
        class Money:
            amount = 3

        class Euro(Money):
            pass

        with self.assertRaisesRegex(ResultError, "Money"):
            encode_within([Money()], 100)
        returned = keelback.encoder(Money)(write := lambda value: {"amount": value.amount, "at": datetime.date(2026, 1, 2)})
        self.assertIs(write, returned)
        self.assertEqual(b'[{"amount":3,"at":"2026-01-02"}]', encode([Euro()]))
        keelback.encoder(Euro)(lambda value: "euro")
        self.assertEqual(b'["euro",{"amount":3,"at":"2026-01-02"}]', encode([Euro(), Money()]))
        keelback.encoder(datetime.date)(lambda value: value.toordinal())
        self.assertEqual(b"[1]", encode([datetime.date(1, 1, 1)]))
        keelback.encoder(bytes)(lambda value: value.hex())
        self.assertEqual(b'"00ff"', encode(b"\x00\xff"))

    def test_an_encoder_that_fails_is_an_error_that_names_the_place(self):
        class Money:
            pass

        keelback.encoder(Money)(lambda value: value.amount)
        with self.assertRaisesRegex(ResultError, r"result\['m'\] is of type .*Money, which .*<lambda> could not convert: AttributeError"):
            encode_within({"m": Money()}, 100)
        self.assertEqual({}, encoding._seen)

    def test_what_cannot_be_registered_is_said_at_once(self):
        for wrong in (str, int, bool, float, dict, list, tuple, collections.OrderedDict, enum.IntEnum, type(None), "text", None):
            with self.assertRaises(TypeError, msg=wrong):
                keelback.encoder(wrong)
        with self.assertRaises(TypeError):
            keelback.encoder(bytes)(3)
        keelback.encoder(bytes)(self.one)
        keelback.encoder(bytes)(self.one)  # the same again: the module was imported twice
        with self.assertRaisesRegex(keelback.BadApplication, "two encoders for builtins.bytes"):
            keelback.encoder(bytes)(self.other)

    def one(self, value): ...
    def other(self, value): ...


class Threads(unittest.TestCase):
    """Shared calls encode their results in threads of their own. A conversion may wait, and then others run."""

    def setUp(self):
        self.addCleanup(conversions._users.clear)
        self.addCleanup(conversions._cache.clear)

        class Slow:
            pass

        self.slow = Slow()
        keelback.encoder(Slow)(lambda value: self.convert())

    def at_once(self, *works):
        with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
            return [done.result() for done in [pool.submit(work) for work in works]]

    def test_two_that_write_one_value_see_no_cycle_in_it(self):
        both = threading.Barrier(2)
        value = {"rows": [self.slow]}

        def one():
            try:
                return encode(value)
            except BaseException:
                both.abort()  # nobody waits for one that failed
                raise

        self.convert = lambda: str(both.wait(supervisor.WAIT_S) >= 0)
        self.assertEqual([b'{"rows":["True"]}'] * 2, self.at_once(one, one))

    def test_one_that_fails_is_nothing_to_another(self):
        inside, failed = threading.Event(), threading.Event()

        def convert():
            inside.set()
            return failed.wait(supervisor.WAIT_S)

        def fails():
            inside.wait(supervisor.WAIT_S)
            try:
                with self.assertRaises(TypeError):
                    encode([[object()]])
            finally:
                failed.set()

        self.convert = convert
        self.assertEqual([b'[{"a":true}]', None], self.at_once(lambda: encode([{"a": self.slow}]), fails))
        self.assertEqual({}, encoding._seen)


@unittest.skipUnless(NUMPY, "no interpreter with NumPy")
class NumPyScalars(unittest.TestCase):
    def test_scalars_are_written_as_anybody_would_and_the_rest_is_named(self):
        program = """
            import json, math, numpy as np
            from keelback.encoding import ResultError, encode, encode_within
            for value, expected in (
                (np.float16(0.5), 0.5), (np.float32(0.5), 0.5), (np.float64(0.5), 0.5), (np.longdouble(0.5), 0.5),
                (np.float32(0.1), float(np.float32(0.1))), (np.bool_(True), True), (np.str_("é"), "é"),
                *((np.dtype(code).type(7), 7) for code in "bBhHiIlLqQ"), (np.uint64(2**64 - 1), 2**64 - 1),
                (np.datetime64("2026-01-02"), "2026-01-02"), (np.datetime64("2026-01-02T03:04:05.678", "ns"), "2026-01-02T03:04:05.678000000"),
                (np.timedelta64(90, "m"), "PT1H30M"), (np.timedelta64(-1500, "ms"), "-PT1.5S"), (np.timedelta64(3, "W"), "P21D"),
                (np.timedelta64(5, "M"), "P5M"), (np.timedelta64(1, "ns"), "PT0.000000001S"),
            ):
                assert json.loads(encode({"x": [value]})) == {"x": [expected]}, (value, encode([value]))
                assert type(json.loads(encode(value))) is type(expected), value
            assert encode({np.int64(7): 1, np.float32(0.5): 2, np.bool_(True): 3, np.str_("s"): 4}) == b'{"7":1,"0.5":2,"true":3,"s":4}'
            for value, words in (
                (np.float32("nan"), "nan, which JSON"), (np.float16("inf"), "inf, which JSON"), (np.datetime64("NaT"), "numpy.datetime64"),
                (np.timedelta64("NaT"), "numpy.timedelta64"), (np.complex64(1j), "numpy.complex64"), (np.void(b"ab"), "numpy.void"),
                (np.longdouble("1e4000"), "beyond a 64-bit float"), (np.timedelta64(5), "no unit"),
            ):
                try:
                    encode_within({"x": [value]}, 1000)
                except ResultError as error:
                    assert str(error).startswith("result['x'][0] is") and words in str(error), (value, error)
                else:
                    raise AssertionError(value)
            try:
                encode_within({np.int64(7): 1, "7": 2}, 1000)
            except ResultError as error:
                assert "one key in JSON" in str(error), error
            else:
                raise AssertionError("keys")
        """
        done = subprocess.run([NUMPY, "-c", textwrap.dedent(program)], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": os.path.join(supervisor.ROOT, "python")})
        self.assertEqual((0, ""), (done.returncode, done.stderr[-2000:]))


class Refusals(unittest.TestCase):
    def refused(self, value, *words):
        with self.assertRaises(ResultError) as caught:
            encode_within(value, 1 << 20)
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertEqual({}, encoding._seen)
        self.assertEqual(b"[1]", encode([1]))

    def test_name_the_type_and_the_path(self):
        self.refused(object(), "result is of type object")
        self.refused({"outer": [0, {"when": fractions.Fraction(1, 2)}]}, "result['outer'][1]['when']", "fractions.Fraction")
        self.refused([b"abc"], "result[0]", "bytes", "base64")
        self.refused({"a": {(1, 2): 3}}, "result['a']", "key of type tuple")
        self.refused([(x for x in ())], "generator", "stream=True")
        self.refused([range(2)], "result[0]", "of type range")
        self.refused([1j], "result[0]", "of type complex")

    def test_name_numbers_that_json_has_not(self):
        for number in (math.nan, math.inf, -math.inf):
            self.refused({"mean": [1.0, number]}, "result['mean'][1]", repr(number))
        self.refused({math.nan: 1}, "has a key that is nan")
        if hasattr(sys, "get_int_max_str_digits"):
            self.refused({"n": [10**5000]}, "result['n'][0] is an integer of more than 4300 digits")
            self.refused({"n": {10**5000: 1}}, "result['n'] has a key that is an integer of more than 4300 digits")

    def test_name_keys_that_would_be_one_key(self):
        for value, words in (({1: "a", "1": "b"}, ("result has", "1", "'1'")), ({"1": "b", 1: "a"}, ("'1'",)),
                             ({"x": [{None: 1, "null": 2}]}, ("result['x'][0] has", "None", "'null'")),
                             ({True: 1, "true": 2}, ("True",)), ({2.5: 1, "2.5": 2}, ("2.5",)), ({-1: 1, "-1": 2}, ("-1",)),
                             ({"a": 1, "b": {"c": {10**20: 1, str(10**20): 2}}}, ("result['b']['c'] has",)),
                             ({uuid.UUID(int=1): 1, str(uuid.UUID(int=1)): 2}, ("UUID",)),
                             ([Row(1, {"deep": {1: 1, "1": 2}})], ("result[0]['more']['deep'] has",)),
                             ({"long": ["x"] * 1000, "d": {False: 0, "false": 1}}, ("result['d'] has",))):
            self.refused(value, "one key in JSON", *words)

    def test_tell_a_cycle_from_a_value_used_twice(self):
        shared = [1]
        self.assertEqual(b"[[1],[1]]", encode_within([shared, shared], 100))
        loop = {"self": []}
        loop["self"].append(loop)
        self.refused(loop, "result['self'][0]", "circular")

    def test_nesting_too_deep_is_said_so(self):
        deep = []
        for _ in range(200_000):
            deep = [deep]
        self.refused(deep, "nested too deeply")
        while deep:  # taken apart by hand: freeing such a chain recursively is the interpreter's affair
            deep = deep[0]

    def test_a_deep_path_is_shortened(self):
        deep = object()
        for _ in range(100):
            deep = [deep]
        with self.assertRaises(ResultError) as caught:
            encode_within(deep, 100)
        self.assertLess(len(str(caught.exception)), 200)

    def test_the_limit_is_exact(self):
        self.assertEqual(b'"' + b"x" * 98 + b'"', encode_within("x" * 98, 100))
        with self.assertRaises(ResultError) as caught:
            encode_within("x" * 99, 100)
        self.assertIn("101 bytes", str(caught.exception))

    def test_a_value_whose_own_methods_fail_is_refused_too(self):
        class Hostile(dict):
            def items(self):
                raise SystemError("no items today")

        self.refused([Hostile(a=1)])


if __name__ == "__main__":
    unittest.main()
