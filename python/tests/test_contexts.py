"""What a call sets in a context variable is seen by that call only, in all kinds of code."""

import unittest

from supervisor import SupervisorTest, frame

from keelback import wire

APP = """
    import asyncio, concurrent.futures, contextvars, decimal, threading, time, keelback

    user = contextvars.ContextVar("user", default=None)
    ground = contextvars.ContextVar("ground", default=None)
    shared = contextvars.ContextVar("shared", default=None)
    told = []
    background = {}
    if "decimal at import" in MODE:
        decimal.getcontext().prec = 40

    @keelback.setup
    async def once():
        await asyncio.sleep(0)
        shared.set("setup")

    @keelback.worker_setup
    def begin():
        ground.set("worker_setup")

    @keelback.worker_setup
    async def begin_too():
        async def ticks():
            user.set("background")
            while True:
                background["user"] = user.get()
                await asyncio.sleep(0.001)
        background["task"] = asyncio.get_running_loop().create_task(ticks())
        await asyncio.sleep(0.005)
        ground.set(ground.get() + " async")

    def look(name):
        before = user.get()
        if name:
            user.set(name)
        return before

    @keelback.function
    def plain(name=None, fails=False):
        before = look(name)
        if fails:
            raise ValueError(name)
        return before

    @keelback.function
    async def coroutine(name=None, fails=False):
        before = look(name)
        await asyncio.sleep(0)
        if fails:
            raise ValueError(name)
        assert user.get() == (name or before)
        return before

    @keelback.function
    def generator(name=None):
        yield look(name)
        for _ in range(2):
            yield user.get()
            if name:
                user.set(name + "!")

    @keelback.function
    async def async_generator(name=None):
        yield look(name)
        for _ in range(2):
            await asyncio.sleep(0)
            yield user.get()
            if name:
                user.set(name + "!")

    @keelback.function(stream=True)
    async def answers_an_iterator(name=None):
        return iter([look(name)])

    @keelback.function
    def waits(name):
        look(name)
        print("inside", flush=True)
        time.sleep(60)

    @keelback.function
    def grounds():
        return [ground.get(), shared.get()]

    @keelback.function
    def changes_the_ground():
        ground.set("spoilt")
        shared.set("spoilt")

    @keelback.function
    def odd_names(self, callable, args, kwargs):
        return [self, callable, args, kwargs]

    @keelback.function
    def precision(digits=None):
        if digits:
            decimal.getcontext().prec = digits
        return decimal.getcontext().prec

    # ---- hooks

    @keelback.on_session_open
    def opened():
        look("opened")

    @keelback.on_session_open
    async def opened_too():
        await asyncio.sleep(0)
        user.set(user.get() + " async")

    @keelback.on_session_end
    def ended(reason):
        told.append(["end", look("ended")])

    @keelback.on_session_end
    async def ended_too(reason):
        told.append(["end too", user.get()])

    @keelback.snapshot
    def save(state):
        told.append(["save", look("saved")])
        return state

    @keelback.restore
    async def make(state):
        look("restored")
        return state

    @keelback.function
    def history():
        return told

    # ---- the call itself, from wherever it is asked

    @keelback.function
    def who():
        seen = [keelback.session().id]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(lambda: keelback.session().id).result())
            seen.append(pool.submit(lambda: user.get()).result())
        return seen

    @keelback.function
    async def who_async():
        async def inner():
            return keelback.session().id
        loop = asyncio.get_running_loop()
        return [await asyncio.create_task(inner()),
                await loop.run_in_executor(None, lambda: keelback.session().id),
                await asyncio.to_thread(lambda: [keelback.session().id, user.get()])]

    @keelback.function
    def who_streams():
        yield keelback.session().id
        yield keelback.session().id

    @keelback.function
    def seen_in_the_background():
        return background["user"]

    @keelback.function
    async def background_goes_on():
        background.clear()
        while "user" not in background:
            await asyncio.sleep(0.001)
        return background["user"]
"""

KINDS = ("plain", "coroutine", "generator", "async_generator", "answers_an_iterator")


def ann(epoch=1, birth=7):
    return {"session": "ann", "birth": birth, "epoch": epoch}


class Calls(SupervisorTest):
    def make(self, mode=""):
        return self.worker(self.app(APP.replace("MODE", repr(mode))))

    def setUp(self):
        self.w = self.make()

    def seen(self, function, arguments=None, **options):
        """What the call found in the variable, and how the call went on for a stream."""
        value = self.w.call(function, arguments, **options).value
        return value[0] if isinstance(value, list) else value

    def test_no_kind_of_function_leaves_a_value_for_the_next_call_of_any_kind(self):
        for leaves in KINDS:
            self.assertIsNone(self.seen(leaves, [leaves]), leaves)
            for finds in KINDS:
                self.assertIsNone(self.seen(finds), (leaves, finds))

    def test_a_stream_leaves_nothing_either_and_its_steps_share_a_context(self):
        for function in ("generator", "async_generator"):
            reply = self.w.call(function, ["ann"], stream=True)
            self.assertEqual([None, "ann", "ann!"], reply.items, function)
            self.assertEqual([None, "ann", "ann!"], self.w.call(function, ["ann"]).value, function)
            self.assertEqual([None, None, None], self.w.call(function, stream=True).items, function)

    def test_a_call_that_fails_or_is_interrupted_leaves_nothing(self):
        for function in ("plain", "coroutine"):
            self.assertEqual("ValueError", self.w.call(function, ["ann", True]).error["type"])
            self.assertIsNone(self.seen("plain"))
        call = self.w.submit("waits", ["ann"])
        self.w.wait_log("inside")
        self.w.interrupt(call)
        self.assertEqual("KeyboardInterrupt", self.w.reply(call).error["type"])
        self.assertIsNone(self.seen("plain"))

    def test_what_the_setup_hooks_left_is_there_in_every_call(self):
        for worker in (self.w, self.exec_worker(self.app(APP.replace("MODE", "''"))).wait_ready()):
            for _ in range(2):
                self.assertEqual(["worker_setup async", "setup"], worker.call("grounds").value)
                worker.call("changes_the_ground")

    def test_a_task_of_a_setup_hook_keeps_its_own(self):
        self.assertEqual("background", self.w.call("seen_in_the_background").value)
        self.w.call("coroutine", ["ann"])
        self.assertEqual("background", self.w.call("background_goes_on").value)
        self.assertIsNone(self.seen("coroutine"))

    def test_parameters_may_have_any_name(self):
        arguments = {"self": 1, "callable": 2, "args": 3, "kwargs": 4}
        self.assertEqual([1, 2, 3, 4], self.w.call("odd_names", arguments).value)

    def test_the_precision_of_decimal_is_the_call_s_own(self):
        self.assertEqual(3, self.w.call("precision", [3]).value)
        self.assertEqual(28, self.w.call("precision").value)
        worker = self.make("decimal at import")
        self.assertEqual(3, worker.call("precision", [3]).value)
        self.assertEqual(40, worker.call("precision").value)


class Hooks(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP.replace("MODE", "''")))

    def test_opening_a_session_is_part_of_its_call(self):
        for number, function in enumerate(("plain", "coroutine")):
            session = {"session": f"s{number}", "birth": number + 1, "epoch": 1}
            self.assertEqual("opened async", self.w.call(function, opens=True, **session).value)
            self.assertIsNone(self.w.call(function, **session).value)
        self.assertIsNone(self.w.call("plain").value)

    def test_the_end_of_a_session_runs_in_a_context_of_its_own(self):
        self.w.call("plain", ["ann"], opens=True, **ann())
        self.w.send(frame(wire.SESSION_END, 0, (7).to_bytes(8, "little") + b"\0ann"))
        self.assertEqual([["end", None], ["end too", "ended"]], self.w.call("history").value)
        self.assertIsNone(self.w.call("plain").value)

    def test_saving_and_restoring_a_session_leave_nothing(self):
        reply = self.w.call("plain", ["ann"], opens=True, saves=True, **ann())
        self.assertEqual((1, b"{}"), reply.state)
        self.assertEqual((1, b"{}"), self.w.save("ann", 7, 1))
        self.assertEqual([["save", None]] * 2, self.w.call("history").value)
        self.assertIsNone(self.w.call("plain").value)
        other = self.worker(self.app(APP.replace("MODE", "''")))
        self.assertEqual("restored", other.call("plain", restore=reply.state, **ann(epoch=2)).value)
        self.assertIsNone(other.call("plain", **ann(epoch=2)).value)

    def test_the_call_is_known_in_its_tasks_and_threads(self):
        self.assertEqual(["ann", "ann", None], self.w.call("who", opens=True, **ann()).value)
        self.assertEqual(["ann", "ann", ["ann", None]], self.w.call("who_async", **ann()).value)
        self.assertEqual(["ann"] * 2, self.w.call("who_streams", stream=True, **ann()).items)
        bob = {"session": "bob", "birth": 8, "epoch": 1}
        expected = ["bob", "bob", ["bob", "opened async"]]
        self.assertEqual(expected, self.w.call("who_async", opens=True, **bob).value)


if __name__ == "__main__":
    unittest.main()
