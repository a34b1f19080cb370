"""Sessions in a worker: state, epochs, hooks with their reasons, and never a silently new state."""

import unittest

from supervisor import STARTED, SupervisorTest, frame

from keelback import wire

APP = """
    import asyncio, keelback

    told = []
    fail_open = []

    @keelback.on_session_open
    def opened():
        s = keelback.session()
        told.append(["open", s.id, s.epoch, dict(s.state)])
        if fail_open:
            fail_open.pop()
            s.state["half"] = True
            raise RuntimeError("cannot open")
        s.state["log"] = []

    @keelback.on_session_open
    async def opened_too():
        await asyncio.sleep(0)
        keelback.session().state["async"] = True

    @keelback.on_session_end
    def ended(reason):
        s = keelback.session()
        told.append(["end", s.id, s.epoch, reason, len(s.state["log"])])
        if s.id == "bad":
            raise ValueError("the hook fails")

    @keelback.on_session_end
    async def ended_too():
        told.append(["end too", keelback.session().id])

    @keelback.function
    def append(value):
        s = keelback.session()
        s.state["log"].append(value)
        return {"id": s.id, "epoch": s.epoch, "state": s.state}

    @keelback.function
    def history():
        return told

    @keelback.function
    def fail_next_open():
        fail_open.append(1)

    @keelback.function
    async def from_a_task():
        async def inner():
            return keelback.session().id
        return await asyncio.create_task(inner())
"""


def ann(epoch=1, birth=7):
    return {"session": "ann é", "birth": birth, "epoch": epoch}


class Sessions(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def end(self, name, birth, reason):
        self.w.send(frame(wire.SESSION_END, 0, birth.to_bytes(8, "little") + bytes((reason,)) + name.encode()))

    def history(self):
        return self.w.call("history").value

    def test_state_lives_from_open_to_end(self):
        first = self.w.call("append", [1], opens=True, **ann()).value
        self.assertEqual({"id": "ann é", "epoch": 1, "state": {"log": [1], "async": True}}, first)
        self.assertEqual([1, 2], self.w.call("append", [2], **ann()).value["state"]["log"])
        self.assertEqual("ann é", self.w.call("from_a_task", **ann()).value)
        self.end("ann é", 7, 0)
        self.assertEqual([["open", "ann é", 1, {}], ["end", "ann é", 1, "expired", 2], ["end too", "ann é"]], self.history())
        again = self.w.call("append", [3], opens=True, **ann(birth=8)).value
        self.assertEqual([3], again["state"]["log"])

    def test_every_reason_has_its_word(self):
        words = ("expired", "ended", "lost", "evicted", "drained", "moved")
        for number, word in enumerate(words):
            self.w.call("append", [0], opens=True, **ann(birth=number))
            self.end("ann é", number, number)
            self.assertEqual(word, self.history()[-2][3])

    def test_a_call_of_a_session_that_is_not_here_is_an_error_and_makes_no_state(self):
        for prepare in (lambda: None, lambda: self.w.call("append", [1], opens=True, **ann())):
            prepare()
            for other in ({"session": "bob", "birth": 7, "epoch": 1}, ann(epoch=2), ann(birth=8)):
                before = self.w.words[STARTED]
                reply = self.w.call("append", [2], **other)
                self.assertEqual((wire.KIND_ERROR, "keelback.SessionNotHere"), (reply.error_kind, reply.error["type"]), other)
                self.assertEqual(before, self.w.words[STARTED], "nothing ran")
        self.assertEqual([1, 3], self.w.call("append", [3], **ann()).value["state"]["log"])

    def test_a_new_epoch_opens_with_an_empty_state(self):
        self.w.call("append", [1], opens=True, **ann())
        self.assertEqual([2], self.w.call("append", [2], opens=True, **ann(epoch=2)).value["state"]["log"])
        self.assertEqual([["end", "ann é", 1, "lost", 1], ["end too", "ann é"], ["open", "ann é", 2, {}]], self.history()[1:])

    def test_an_open_hook_that_fails_fails_the_call_and_the_next_call_opens(self):
        self.w.call("fail_next_open")
        reply = self.w.call("append", [1], opens=True, **ann())
        self.assertEqual(("RuntimeError", "cannot open"), (reply.error["type"], reply.error["message"]))
        self.assertEqual({"log": [2], "async": True}, self.w.call("append", [2], **ann()).value["state"])
        self.end("ann é", 7, 1)
        self.assertEqual(["open", "open", "end", "end too"], [entry[0] for entry in self.history()])

    def test_an_opening_call_that_does_not_run_still_leaves_the_session_open(self):
        for function, arguments in (("nothere", None), ("append", [1, 2, 3])):
            reply = self.w.call(function, arguments, opens=True, **ann())
            self.assertIn(reply.error_kind, (wire.KIND_BAD_REQUEST, wire.KIND_UNKNOWN_FUNCTION))
        self.assertEqual([], self.history())
        self.assertEqual([5], self.w.call("append", [5], **ann()).value["state"]["log"])

    def test_an_end_hook_that_fails_is_logged_and_the_others_run(self):
        self.w.call("append", [1], opens=True, session="bad", birth=1, epoch=1)
        self.end("bad", 1, 3)
        self.assertEqual(["end too", "bad"], self.history()[-1])
        self.assertIn("on_session_end('evicted') failed", self.w.wait_log("the hook fails"))

    def test_the_end_of_an_older_birth_or_of_nobody_changes_nothing(self):
        self.w.call("append", [1], opens=True, **ann(birth=8))
        self.end("ann é", 7, 1)
        self.end("nobody", 7, 1)
        self.assertEqual([1, 2], self.w.call("append", [2], **ann(birth=8)).value["state"]["log"])
        self.assertEqual(1, len(self.history()))

    def test_an_end_that_comes_while_a_call_runs_waits_for_it(self):
        self.w.call("append", [1], opens=True, **ann())
        call = self.w.submit("append", [2], **ann())
        self.end("ann é", 7, 1)
        self.assertEqual([1, 2], self.w.reply(call).value["state"]["log"])
        self.assertEqual(["end", "ann é", 1, "ended", 2], self.history()[1])

    def test_shutdown_runs_the_end_hooks_of_every_session(self):
        self.w.call("append", [1], opens=True, **ann())
        self.w.call("append", [1], opens=True, session="bad", birth=1, epoch=1)
        self.assertEqual(0, self.w.shutdown())
        self.assertIn("on_session_end('drained') failed", self.w.log())

    def test_many_sessions_come_and_go(self):
        for number in range(2000):
            self.assertEqual([number], self.w.call("append", [number], opens=True, session=f"s{number}", birth=number, epoch=1).value["state"]["log"])
        self.assertEqual([77, 0], self.w.call("append", [0], session="s77", birth=77, epoch=1).value["state"]["log"])
        for number in range(2000):
            self.end(f"s{number}", number, 0)
        self.assertEqual(6000, len(self.history()))


if __name__ == "__main__":
    unittest.main()
