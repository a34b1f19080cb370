"""A session's state as a snapshot: JSON unless hooks say otherwise, and nothing that would come back changed."""

import unittest

from supervisor import STARTED, SupervisorTest

from keelback import wire

NONE, JSON, BYTES = 0, 1, 2

PLAIN = """
    import keelback

    opened = []

    @keelback.on_session_open
    def note():
        opened.append(keelback.session().epoch)

    @keelback.function
    def put(key, value):
        keelback.session().state[key] = value
        return keelback.session().state

    @keelback.function
    def do(code):
        exec(code, {"state": keelback.session().state})

    @keelback.function
    def opens():
        return opened
"""

HOOKED = """
    import asyncio, keelback

    broken = []

    @keelback.snapshot
    async def save(state):
        await asyncio.sleep(0)
        if "save" in broken:
            raise RuntimeError("cannot save")
        return bytearray(keelback.session().id.encode() + b"|" + ",".join(sorted(state["set"])).encode())

    @keelback.restore
    def make(data):
        if "restore" in broken:
            broken.remove("restore")
            raise RuntimeError("cannot restore")
        if "none" in broken:
            return None
        return {"set": set(data.split(b"|")[1].decode().split(","))}

    @keelback.on_session_open
    def begin():
        keelback.session().state["set"] = {"begun"}

    @keelback.function
    def add(word):
        keelback.session().state["set"].add(word)
        return sorted(keelback.session().state["set"])

    @keelback.function
    def break_(what):
        broken.append(what)
"""


def ann(epoch=1, birth=7, **more):
    return {"session": "ann é", "birth": birth, "epoch": epoch, **more}


class Json(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(PLAIN))

    def test_the_state_after_the_call_comes_with_its_answer_and_is_restored_elsewhere_without_the_open_hooks(self):
        reply = self.w.call("put", ["é", [1, None, {"x": 0.5}]], saves=True, opens=True, **ann())
        self.assertEqual((JSON, '{"é":[1,null,{"x":0.5}]}'.encode()), reply.state)
        other = self.worker(self.app(PLAIN))
        reply = other.call("put", ["more", True], saves=True, restore=reply.state, **ann(epoch=2))
        self.assertEqual({"é": [1, None, {"x": 0.5}], "more": True}, reply.value)
        self.assertEqual([], other.call("opens", **ann(epoch=2)).value)
        self.assertEqual([1], self.w.call("opens", **ann()).value)

    def test_a_state_that_would_come_back_as_something_else_is_refused_by_name(self):
        self.w.call("put", ["a", 1], opens=True, **ann())
        for code, why in (
            ("state['t'] = (1, 2)", b"state['t'] is of type tuple and would come back as list"),
            ("state['t'] = {1: 'one'}", b"state['t'] has the key 1 of type int; JSON's keys are"),
            ("state['t'] = {'deep': [object()]}", b"state['t']['deep'][0] is of type object"),
            ("state['t'] = float('nan')", b"nan"),
            ("state['t'] = state", b"circular"),
        ):
            kind, text = self.w.call("do", [code], saves=True, **ann()).state
            self.assertEqual(NONE, kind, code)
            self.assertIn(why, text)
        self.w.call("do", ["state.pop('t')"], **ann())
        self.assertEqual((JSON, b'{"a":1}'), self.w.save("ann é", 7, 1))

    def test_a_call_that_asks_for_it_and_one_that_does_not_take_turns(self):
        self.assertIsNone(self.w.call("put", ["a", 1], opens=True, **ann()).state)
        self.assertEqual((JSON, b'{"a":2}'), self.w.call("put", ["a", 2], saves=True, **ann()).state)
        self.assertIsNone(self.w.call("put", ["a", 3], **ann()).state)

    def test_a_stateless_call_that_asks_for_it_gets_its_answer(self):
        self.assertEqual([], self.w.call("opens", saves=True).value)

    def test_a_failed_call_s_state_counts(self):
        self.w.call("put", ["a", 1], opens=True, **ann())
        reply = self.w.call("do", ["state['a'] = 2; raise ValueError('x')"], saves=True, **ann())
        self.assertEqual(("ValueError", (JSON, b'{"a":2}')), (reply.error["type"], reply.state))

    def test_a_large_state_travels_in_many_packets(self):
        text = "x" * 900_000
        reply = self.w.call("put", ["big", text], saves=True, opens=True, **ann())
        self.assertEqual(JSON, reply.state[0])
        other = self.worker(self.app(PLAIN))
        self.assertEqual(text, other.call("put", ["a", 1], restore=reply.state, **ann(epoch=2)).value["big"])
        kind, why = self.w.call("put", ["bigger", text], saves=True, **ann()).state
        self.assertEqual(NONE, kind)
        self.assertIn(b"sessions.snapshot_max is 1048576", why)

    def test_a_restored_state_that_is_no_object_is_an_error_and_never_an_empty_state(self):
        for state in ((JSON, b"[1]"), (JSON, b"{"), (BYTES, b"{}")):
            reply = self.w.call("put", ["a", 1], restore=state, **ann())
            self.assertEqual(wire.KIND_ERROR, reply.error_kind, state)
            self.assertEqual(self.w.words[STARTED], self.w._next, "user code may have run: the mark says so")
            reply = self.w.call("put", ["a", 1], **ann())
            self.assertEqual(wire.KIND_ERROR, reply.error_kind, "nor in the next call")


class Hooks(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(HOOKED))

    def test_bytes_of_the_hooks_go_round(self):
        reply = self.w.call("add", ["a"], saves=True, opens=True, **ann())
        self.assertEqual((BYTES, "ann é|a,begun".encode()), reply.state)
        other = self.worker(self.app(HOOKED))
        self.assertEqual(["a", "b", "begun"], other.call("add", ["b"], restore=reply.state, **ann(epoch=2)).value)

    def test_a_snapshot_hook_that_raises_is_a_reason_and_no_error_of_the_call(self):
        self.w.call("break_", ["save"])
        reply = self.w.call("add", ["a"], saves=True, opens=True, **ann())
        self.assertEqual(["a", "begun"], reply.value)
        self.assertEqual((NONE, b"RuntimeError: cannot save"), reply.state)

    def test_a_restore_hook_that_raises_is_the_call_s_error_and_the_next_call_restores_again(self):
        self.w.call("break_", ["restore"])
        given = (BYTES, b"ann|x,y")
        reply = self.w.call("add", ["a"], saves=True, restore=given, **ann())
        self.assertEqual("cannot restore", reply.error["message"])
        self.assertEqual(given, reply.state, "what was given is still its state")
        self.assertEqual(given, self.w.save("ann é", 7, 1))
        self.assertEqual(["b", "x", "y"], self.w.call("add", ["b"], **ann()).value)

    def test_a_restore_hook_that_returns_no_state_is_an_error(self):
        self.w.call("break_", ["none"])
        reply = self.w.call("add", ["a"], restore=(BYTES, b"ann|x"), **ann())
        self.assertIn("@keelback.restore returned NoneType", reply.error["message"])

    def test_a_session_whose_opening_failed_has_nothing_to_save(self):
        self.assertEqual(NONE, self.w.save("nobody", 1, 1)[0])
        reply = self.w.call("add", [], saves=True, opens=True, **ann())
        self.assertEqual(wire.KIND_BAD_REQUEST, reply.error_kind)
        self.assertIsNone(reply.state)
        self.assertEqual((NONE, b"the session did not open"), self.w.save("ann é", 7, 1))


EVERYDAY = """
    import collections, decimal, enum, math, keelback
    from keelback import snapshots

    class Level(enum.IntEnum):
        HIGH = 1

    class Word(str, enum.Enum):
        YES = "yes"

    class Text(str):
        pass

    class Whole(int):
        pass

    class Real(float):
        pass

    Point = collections.namedtuple("Point", "x y")
    returned = []

    @keelback.function
    def put(code):
        state = keelback.session().state
        state.clear()
        exec(code, globals(), {"state": state})

    @keelback.function
    def replace(code):
        keelback.session().state = eval(code)

    if HOOK:
        @keelback.snapshot
        def save(state):
            return eval(state["returns"])

        @keelback.function
        def returns(code):
            keelback.session().state["returns"] = code

    if "restore" in HOOK:
        @keelback.restore
        def make(value):
            returned.append(value)
            return {"returns": "0"}

        @keelback.function
        def last():
            return repr(returned[-1])
"""


class Exact(SupervisorTest):
    """What is saved comes back equal, types included; what would not is not saved."""

    CHANGES = (  # (code, place and kind of what would come back changed)
        ("state['a'] = [True, (1,)]", "state['a'][1] is of type tuple and would come back as list"),
        ("state['a'] = {'b': {2: 'two'}}", "state['a']['b'] has the key 2 of type int"),
        ("state[2] = 1; state['2'] = 1", "state has the keys 2 and '2'"),
        ("state['a'] = {1.5: 1}", "state['a'] has the key 1.5 of type float"),
        ("state['a'] = {True: 1}", "state['a'] has the key True of type bool"),
        ("state['a'] = {None: 1}", "state['a'] has the key None of type NoneType"),
        ("state['a'] = {Text('b'): 1}", "state['a'] has the key 'b' of type app.Text"),
        ("state['a'] = collections.OrderedDict(b=1)",
         "state['a'] is of type collections.OrderedDict and would come back as dict"),
        ("state['a'] = collections.defaultdict(int, b=1)",
         "state['a'] is of type collections.defaultdict and would come back as dict"),
        ("state['a'] = collections.Counter('abc')", "state['a'] is of type collections.Counter"),
        ("state['a'] = Point(1, 2)", "state['a'] is of type app.Point and would come back as list"),
        ("state['a'] = [Level.HIGH]", "state['a'][0] is of type app.Level and would come back"),
        ("state['a'] = Word.YES", "state['a'] is of type app.Word and would come back as str"),
        ("state['a'] = Text('b')", "state['a'] is of type app.Text and would come back as str"),
        ("state['a'] = Whole(1)", "state['a'] is of type app.Whole and would come back as int"),
        ("state['a'] = Real(1)", "state['a'] is of type app.Real and would come back as float"),
        ("state['a'] = chr(0xd83d) + chr(0xde00)", "state['a'] is '\\ud83d\\ude00' and would come"),
        ("state[chr(0xd83d) + chr(0xde00)] = 1", "state has the key '\\ud83d\\ude00', which"),
        ("state['a'] = math.nan", "state['a'] is nan"),
        ("state['a'] = -math.inf", "state['a'] is -inf"),
        ("state['a'] = {1, 2}", "state['a'] is of type set"),
        ("state['a'] = b'bytes'", "state['a'] is of type bytes"),
        ("state['a'] = decimal.Decimal(1)", "state['a'] is of type decimal.Decimal"),
        ("state['a'] = 10**5000", "is an integer of more than 4300 digits"),
    )
    COMES_BACK = (
        "state.update(a=True, b=1, c=1.0, d=0, e=False, f=None, g=-0.0, h=0.0)",
        "state['a'] = [2**70, -(2**70), 1e308, 5e-324, 0.1 + 0.2]",
        "state['a'] = 'é😀' + chr(0) + chr(0x2028) + chr(92) + chr(34)",
        "state['a'] = chr(0xd800)",
        "state[chr(0xdc00) + 'x'] = [chr(0xdfff)]",
        "state['z'] = 1; state['a'] = 2; state['m'] = {'z': 1, 'a': 2}",
        "shared = ['same']; state['a'] = [shared, shared, 'same', 'same']",
        "state['name'] = 'name'; state['name2'] = 'na' + str('me')",
        """import json; state.update(json.loads('{"a": [1, "name"], "name": 1}'))""",
        "pass",
    )

    def make(self, hook=""):
        return self.worker(self.app(EVERYDAY.replace("HOOK", repr(hook))))

    def test_what_would_come_back_changed_is_refused_with_its_place_and_type(self):
        worker = self.make()
        worker.call("put", ["pass"], opens=True, **ann())
        for code, why in self.CHANGES:
            reply = worker.call("put", [code], saves=True, **ann())
            self.assertEqual(wire.RESULT, reply.kind, reply)
            self.assertEqual(NONE, reply.state[0], (code, reply.state))
            self.assertIn(why, reply.state[1].decode(), code)
            self.assertEqual(reply.state, worker.save("ann é", 7, 1))

    def test_what_comes_back_equal_is_saved(self):
        worker = self.make()
        worker.call("put", ["pass"], opens=True, **ann())
        for epoch, code in enumerate(self.COMES_BACK, 2):
            state = worker.call("put", [code], saves=True, **ann()).state
            self.assertEqual(JSON, state[0], (code, state))
            other = {"session": "other", "birth": 9, "epoch": epoch}
            again = worker.call("ask", saves=True, restore=state, **other).state
            self.assertIsNone(again, "there is no such function: nothing ran")
            self.assertEqual(state, worker.save("other", 9, epoch))

    def test_a_state_that_is_nested_too_deeply_is_refused(self):
        worker = self.make()
        worker.call("put", ["pass"], opens=True, **ann())
        for depth in (900, 1500, 2500, 100_000):
            code = f"at = state\nfor _ in range({depth}):\n    at['a'] = {{}}; at = at['a']"
            kind, text = worker.call("put", [code], saves=True, **ann()).state
            if depth == 100_000 or kind == NONE:  # how deep JSON goes is the interpreter's choice
                self.assertEqual(NONE, kind)
                self.assertRegex(text.decode(), "deep")
        self.assertEqual(JSON, worker.call("put", ["pass"], saves=True, **ann()).state[0])

    def test_a_state_that_is_no_dict_is_refused_when_it_is_saved_and_not_when_it_is_restored(self):
        worker = self.make()
        worker.call("put", ["pass"], opens=True, **ann())
        for code, why in (("[1]", "state is of type list"), ("None", "state is of type NoneType"),
                          ("b'x'", "state is of type bytes"),
                          ("collections.OrderedDict()", "OrderedDict")):
            kind, text = worker.call("replace", [code], saves=True, **ann()).state
            self.assertEqual(NONE, kind, code)
            self.assertIn(why, text.decode())

    def test_what_a_hook_returns_is_not_changed_either(self):
        worker = self.make("with restore")
        worker.call("returns", ["0"], opens=True, **ann())
        for code, why in (("{'a': (1,)}", "snapshot['a'] is of type tuple and would come back as"),
                          ("[{1: 2}]", "snapshot[0] has the key 1 of type int"),
                          ("Level.HIGH", "snapshot is of type app.Level and would come back as"),
                          ("{1}", "snapshot is of type set"),
                          ("memoryview(b'abcd').cast('i')", "snapshot is a memoryview that is no")):
            kind, text = worker.call("returns", [code], saves=True, **ann()).state
            self.assertEqual(NONE, kind, code)
            self.assertIn(why, text.decode())
        returned = ("[1, 1.0, True, None, 'x']", "'text'", "b'bytes'", "{'a': -0.0}", "None")
        for epoch, code in enumerate(returned, 2):
            state = worker.call("returns", [code], saves=True, **ann()).state
            self.assertNotEqual(NONE, state[0], (code, state))
            other = {"session": "other", "birth": 9, "epoch": epoch}
            self.assertEqual(code, worker.call("last", restore=state, **other).value)

    def test_a_hook_without_its_counterpart_returns_a_dict_or_nothing_is_saved(self):
        worker = self.make("alone")
        worker.call("returns", ["{'a': 1}"], opens=True, **ann())
        self.assertEqual((JSON, b'{"a":1}'), worker.save("ann é", 7, 1))
        for code, what in (("None", "NoneType"), ("[1]", "list"), ("b'x'", "bytes")):
            kind, text = worker.call("returns", [code], saves=True, **ann()).state
            self.assertEqual(NONE, kind, code)
            self.assertIn(f"snapshot is of type {what}; without @keelback.restore", text.decode())


if __name__ == "__main__":
    unittest.main()
