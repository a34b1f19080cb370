"""Attachments as arguments: forms' fields by annotation, files, several of one name."""

import functools
import inspect
import typing
import unittest

import supervisor  # noqa: F401  (finds the package)

import keelback
from keelback import fields
from keelback.attachment import Attachment
from keelback.decoding import ArgumentError

Id = typing.NewType("Id", int)


def field(text, content_type="text/plain"):
    return Attachment(text if isinstance(text, bytes) else text.encode(), "x", content_type=content_type)


def file(data=b"\xff\0", filename="f.bin", content_type="application/octet-stream"):
    return Attachment(data, "x", content_type=content_type, filename=filename)


def plan(annotation):
    def function(x): ...

    function.__annotations__["x"] = annotation
    return fields.plan_of(function, inspect.signature(function).parameters["x"])


def convert(annotation, *attachments, views=False):
    return fields.argument("x", plan(annotation), list(attachments), views)


EMPTY = inspect.Parameter.empty


class Fields(unittest.TestCase):
    def refused(self, annotation, *attachments, words):
        with self.assertRaises(ArgumentError, msg=(annotation, attachments)) as caught:
            convert(annotation, *attachments)
        self.assertIn('argument "x": ', str(caught.exception))
        self.assertIn(words, str(caught.exception))

    def test_a_field_without_annotation_is_text(self):
        for annotation in (EMPTY, typing.Any, object, "Nowhere", "1 +", dict, typing.Literal["a"], list[int] and dict[str, int],
                           typing.Union[int, dict]):
            self.assertEqual("naïve", convert(annotation, field("naïve")), annotation)
        self.assertEqual("", convert(EMPTY, field("")))
        self.assertEqual('{"a":1}', convert(EMPTY, field('{"a":1}', "application/json; charset=utf-8")))
        self.assertEqual("ï", convert(EMPTY, field(b"\xef", 'text/plain; charset="latin-1"')))
        self.refused(EMPTY, field(b"\xff"), words="it is not utf-8 text (invalid start byte at byte 0); bytes are sent as a file")
        self.refused(EMPTY, field(b"x", "text/plain; charset=nonsense"), words="no charset 'nonsense'")

    def test_a_plain_annotation_converts_it(self):
        for annotation, text, value in (
            (int, "7", 7), (int, " -12\n", -12), (int, "+0", 0), (float, "7", 7.0), (float, "-.5e3", -500.0), (float, "1e400"[:4], 1e40),
            (bool, "true", True), (bool, "on", True), (bool, "0", False), (bool, "No", False), (str, "7", "7"), (str, " 7 ", " 7 "),
            (bytes, "é", "é".encode()), (bytearray, "a", bytearray(b"a")), (Id, "7", 7), (typing.Annotated[int, "x"], "7", 7),
            ("int", "7", 7), ("typing.Optional[int]", "7", 7), ("Id", "7", 7), ("int | None", "7", 7), ("float|None", "7", 7.0),
            (typing.Optional[int], "", None), (typing.Optional[float], "", None), (typing.Optional[str], "", ""),
            (typing.Optional["int"], "7", 7), (typing.Union[str, int], "7", 7), (typing.Union[str, int], "x", "x"),
            (typing.Union[int, float], "7.5", 7.5), (typing.Union[float, int], "7", 7), (str, "", ""),
        ):
            got = convert(annotation, field(text))
            self.assertEqual((type(value), value), (type(got), got), (annotation, text))
        self.assertIs(Attachment, type(convert(Attachment, field("a"))))
        self.assertIs(Attachment, type(convert("keelback.Attachment", file())))

    def test_what_does_not_convert_is_refused(self):
        for annotation, text, words in (
            (int, "abc", "'abc' is no int"), (int, "", "'' is no int"), (int, "1.0", "no int"), (int, "1_000", "no int"), (int, "0x1", "no int"),
            (int, "\u0663", "no int"), (float, "nan", "no float"), (float, "inf", "no float"), (float, "1e400", "beyond a 64-bit float"),
            (float, "", "no float"), (float, "1_0.0", "no float"), (bool, "", "no bool"), (bool, "2", "no bool"), (bool, "maybe", "no bool"),
            (typing.Optional[int], "x", "no int"), (typing.Union[int, float], "x", "no int"), (bool, "None", "no bool"),
        ):
            self.refused(annotation, field(text), words=words)
        self.refused(str, field(b"\xff"), words="not utf-8")
        self.refused(int, field(b"\xff"), words="not utf-8")

    def test_a_file_is_bytes_and_its_attachment_says_more(self):
        self.assertEqual(b"\xff\0", convert(EMPTY, file()))
        self.assertEqual(b"a,b", convert(EMPTY, file(b"a,b", "t.csv", "text/csv")), "it comes from a file")
        self.assertEqual(b"png", convert(EMPTY, field(b"png", "image/png")), "it is no text")
        self.assertEqual(b"x", convert(EMPTY, Attachment(b"x")))
        self.assertEqual(b"x", convert(memoryview, Attachment(b"x")), "as without annotation")
        self.assertEqual(memoryview(b"x"), convert(memoryview, field("x")))
        self.assertEqual("a,b", convert(str, file(b"a,b", "t.csv", "text/csv")))
        self.assertEqual(b"\xff\0", convert(typing.Optional[bytes], file()))
        got = convert(Attachment, file())
        self.assertEqual(("f.bin", "application/octet-stream", b"\xff\0"), (got.filename, got.content_type, bytes(got)))
        for kind in (int, float, bool):
            self.refused(kind, file(b"7"), words=f"it is a file and no {kind.__name__}")
        self.refused(str, file(), words="not utf-8")

    def test_several_of_one_name_are_a_list(self):
        self.assertEqual(["a", b"\xff\0"], convert(EMPTY, field("a"), file()))
        self.assertEqual([1, 2], convert(list[int], field("1"), field("2")))
        self.assertEqual([1], convert(typing.List[int], field("1")), "one is a list of one, if the parameter is a list")
        self.assertEqual(["a"], convert(list, field("a")))
        self.assertEqual([b"\xff\0"], convert(typing.Optional[list[bytes]], file()))
        self.assertEqual([Attachment], [type(each) for each in convert("list[keelback.Attachment]", file())])
        self.assertEqual([Attachment] * 2, [type(each) for each in convert(typing.Sequence[Attachment], file(), file())])
        self.refused(list[int], field("1"), field("x"), words="'x' is no int")
        self.refused(int, field("1"), field("2"), words="2 times, and the parameter takes one")
        self.refused(bytes, file(), file(), words="2 times")

    def test_an_array_is_an_array(self):
        def array():
            return Attachment(bytes(8), "x", dtype="float32", content_type="text/plain")

        for annotation in (EMPTY, list, list[float]):
            self.assertEqual(("f", (2,)), (lambda view: (view.format, view.shape))(convert(annotation, array())))
        self.assertEqual(bytes(8), convert(bytes, array()))
        self.assertEqual("f", convert(memoryview, array()).format)
        self.assertEqual(2, len(convert(EMPTY, array(), array())))
        for kind in (str, int, float):
            self.refused(kind, array(), words=f"it is an array and no {kind.__name__}")

    def test_views_are_kept_where_they_are_wanted(self):
        view = memoryview(b"abc")
        for annotation in (EMPTY, bytes, memoryview):
            self.assertIs(view, convert(annotation, Attachment(view), views=True))
        self.assertEqual("abc", convert(str, Attachment(view), views=True))

    def test_annotations_of_every_kind_of_callable_are_found(self):
        class Callable:
            def __call__(self, x: "int"): ...
            def method(self, x: "int"): ...

        def function(first, x: "int"): ...

        @functools.wraps(function)
        def wrapper(*args, **kwargs): ...

        for target in (Callable(), Callable().method, functools.partial(function, 1), wrapper, function):
            parameter = inspect.signature(target).parameters["x"]
            self.assertEqual((int,), fields.plan_of(target, parameter).kinds, target)


class Said(unittest.TestCase):
    def test_a_content_type_is_one(self):
        for wrong in ("png", "image/", "/png", "a b/c", "image/png\r\nX: y", "image/png; é", "image/*x y"):
            with self.assertRaises(ValueError, msg=wrong):
                keelback.Attachment(b"", content_type=wrong)
        for right in ("image/png", "text/plain; charset=utf-8", "application/vnd.api+json;v=1"):
            self.assertEqual(right, keelback.Attachment(b"", content_type=right).content_type)


if __name__ == "__main__":
    unittest.main()
