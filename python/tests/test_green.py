"""An application that replaces functions of the standard library, as gevent and eventlet do, is served.

The replacements here work for everybody but the runtime: it is refused, as a hub that nobody runs
would never come back. The one exception is the pause in which green threads, too, have their turn.
"""

import struct
import unittest

from supervisor import SupervisorTest, frame, python_with, wire

PATCH = """
    import _thread, os, select, selectors, signal, socket, sys, threading, time

    def patch(module, name):
        real = getattr(module, name)
        def patched(*args, **kwargs):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.startswith("keelback.") and (caller, name) != ("keelback.leftovers", "sleep"):
                raise RuntimeError(f"{caller} uses {module.__name__}.{name}, which is green")
            return real(*args, **kwargs)
        setattr(module, name, patched)

    class Socket(socket.socket):
        def __init__(self, *args, **kwargs):
            if sys._getframe(1).f_globals.get("__name__", "").startswith("keelback."):
                raise RuntimeError("the runtime makes a socket, which is green")
            super().__init__(*args, **kwargs)

    for module, names in (
        (_thread, "start_new_thread allocate_lock get_ident"), (os, "fork forkpty read write waitpid"), (select, "select poll"),
        (signal, "signal pthread_sigmask"), (threading, "_start_new_thread Lock RLock Event Condition Semaphore get_ident Timer"),
        (time, "sleep"), (socket, "socketpair create_connection"), (selectors, "DefaultSelector"),
    ):
        for name in names.split():
            patch(module, name)
    socket.socket = Socket
    del select.epoll
"""
GEVENT = "    from gevent import monkey; monkey.patch_all()\n"
FUNCTIONS = """
    import asyncio, os, subprocess, threading, time, keelback

    @keelback.function
    def plain(n: int) -> int:
        time.sleep(0.001)
        return n

    @keelback.function
    def items(n: int):
        for number in range(n):
            time.sleep(0)
            yield number

    @keelback.function
    async def later(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    @keelback.function
    async def async_items(n: int):
        for number in range(n):
            await asyncio.sleep(0)
            yield number

    @keelback.function
    async def hangs() -> None:
        await asyncio.sleep(600)

    @keelback.function
    def sleeps() -> None:
        time.sleep(600)

    @keelback.function
    def spins() -> None:
        while True:
            pass

    @keelback.function
    def thread() -> list:
        said = []
        thread = threading.Thread(target=lambda: (time.sleep(0.001), said.append("in the thread")))
        thread.start()
        thread.join()
        return said

    @keelback.function
    def program() -> str:
        return subprocess.run(["echo", "said"], capture_output=True, text=True).stdout

    @keelback.function
    def sleeps_over_a_program() -> None:
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)
"""


class _Green(SupervisorTest):
    PATCH = PATCH

    def served(self, worker):
        w = worker
        self.assertEqual(7, w.call("plain", [7]).value, w.log())
        self.assertEqual(7, w.call("later", [7]).value, w.log())
        self.assertEqual(["in the thread"], w.call("thread").value, w.log())
        self.assertEqual("said\n", w.call("program").value, w.log())
        for stream in ("items", "async_items"):
            self.streams(w, stream, 3 * wire.CREDIT_AT_START)
        for endless in ("sleeps", "spins", "sleeps_over_a_program"):
            call = w.submit(endless)
            w.wait_started(call)
            self.assertEqual(call, w.ping(1), "the thread that answers runs while user code does")
            w.cancel(call)
            w.interrupt(call)
            reply = w.reply(call)
            self.assertEqual((wire.KIND_CANCELLED, False), (reply.error_kind, reply.unclean), w.log())
            self.assertEqual(3, w.call("plain", [3]).value)
        call = w.submit("hangs")
        w.wait_started(call)
        w.cancel(call)
        self.assertEqual(wire.KIND_CANCELLED, w.reply(call).error_kind)
        self.assertEqual(0, w.shutdown(), w.log())
        self.assertNotIn("green", w.log())

    def streams(self, w, function, count):
        call = w.submit(function, [count], stream=True)
        items = []
        while True:
            kind, _, of, body = w.receive()
            self.assertEqual(call, of)
            if kind == wire.END:
                break
            self.assertEqual(wire.ITEM, kind, body)
            items.append(int(body))
            if len(items) % wire.CREDIT_AT_START == 0:
                w.send(frame(wire.CREDIT, call, struct.pack("<I", wire.CREDIT_AT_START)))
        self.assertEqual(list(range(count)), items)


class Replaced(_Green):
    def test_by_functions_that_the_runtime_must_not_use(self):
        for worker in self.both(self.app(PATCH + FUNCTIONS)):
            self.served(worker)

    def test_before_a_fork_that_is_refused(self):
        zygote = self.zygote(self.app(PATCH + "    kept = open('/dev/null', 'w'), os.pipe()\n" + FUNCTIONS))
        zygote.expect("ready")
        self.assertIn("pipe", zygote.refused()["what"])


@unittest.skipUnless(python_with("gevent"), "no interpreter here has gevent")
class Gevent(_Green):
    @classmethod
    def setUpClass(cls):
        cls.use_python(python_with("gevent"))

    def test_by_gevent(self):
        for worker in self.both(self.app(GEVENT + FUNCTIONS)):
            self.served(worker)


if __name__ == "__main__":
    unittest.main()
