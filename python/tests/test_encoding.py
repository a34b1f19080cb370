"""JSON of arguments and results: the meaning of the standard library, and messages that find the fault."""

import collections
import datetime
import enum
import json
import math
import random
import unittest

import supervisor  # noqa: F401  (finds the package)

from keelback import encoding
from keelback.encoding import ResultError, decode, encode, encode_within


class Decode(unittest.TestCase):
    def test_agrees_with_the_standard_library_on_every_text(self):
        texts = ['1', ' 1', '1 ', '\n[1, 2]\t', '{"a": {"b": [null, true, false, 1.5e3, "x\\u00e9"]}}', '"\\ud83d\\ude00"', '[]', '{}',
                 '""', '-0', '1e400', 'NaN', '[Infinity]', '', ' ', '{', '[1,]', '{"a" 1}', '1 2', 'nul', '"abc', '{"a":1}x',
                 '\ufeff1', '[1]\x00', '"\x01"', '{"a":1,"a":2}', "{'a':1}", '01', '+1', '.5', '1.', '"\\x"', '[1 2]']
        for text in texts:
            try:
                expected = json.loads(text)
            except ValueError as error:
                with self.assertRaises(ValueError, msg=text) as caught:
                    decode(text.encode())
                self.assertEqual(str(error), str(caught.exception), text)
            else:
                self.assertEqual(repr(expected), repr(decode(text.encode())), text)

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
        self.refused({"outer": [0, {"when": datetime.date(2026, 1, 1)}]}, "result['outer'][1]['when']", "datetime.date")
        self.refused([b"abc"], "result[0]", "bytes", "base64")
        self.refused({"a": {(1, 2): 3}}, "result['a']", "key of type tuple")
        self.refused([(x for x in ())], "generator", "stream=True")
        self.refused({1, 2}, "of type set")

    def test_name_numbers_that_json_has_not(self):
        for number in (math.nan, math.inf, -math.inf):
            self.refused({"mean": [1.0, number]}, "result['mean'][1]", repr(number))
        self.refused({math.nan: 1}, "key nan")

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
