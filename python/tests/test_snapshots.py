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
            ("state['t'] = (1, 2)", b"tuples"),
            ("state['t'] = {1: 'one'}", b"keys that are not strings"),
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


if __name__ == "__main__":
    unittest.main()
