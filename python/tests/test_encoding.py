"""JSON of arguments and results: the meaning of the standard library, and messages that find the fault."""

import collections
import datetime
import enum
import json
import math
import random
import sys
import unittest

import supervisor  # noqa: F401  (finds the package)

from keelback import encoding
from keelback.decoding import ArgumentError
from keelback.encoding import ResultError, decode, encode, encode_within


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
