"""The code that docs/deadlines.md shows does what the page says."""

import os
import re
import socket
import threading
import unittest

from supervisor import ROOT, SupervisorTest

from keelback import wire


def code_blocks(page):
    with open(os.path.join(ROOT, "docs", page)) as file:
        return re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)


class Backend:
    """Answers lines in their order. `slow ...` is answered when `release` says so."""

    def __init__(self):
        self.release = threading.Event()
        self.asked = threading.Event()  # something slow is asked
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rw") as file:
            try:
                for line in file:
                    if line.startswith("slow"):
                        self.asked.set()
                        self.release.wait()
                    file.write(f"answer to {line}")
                    file.flush()
            except OSError:  # the caller has closed it
                return

    def close(self):
        self._socket.close()


class Deadlines(SupervisorTest):
    def ask_after_a_cancel(self, code):
        """What the call behind a cancelled one is answered."""
        backend = Backend()
        self.addCleanup(backend.close)
        os.environ["BACKEND_PORT"] = str(backend.port)
        self.addCleanup(os.environ.pop, "BACKEND_PORT")
        worker = self.worker(self.app(code))
        self.assertEqual("answer to one", worker.call("ask", ["one"]).value)
        call = worker.submit("ask", ["slow secret of ann"])
        self.assertTrue(backend.asked.wait(10))
        worker.cancel(call)
        self.assertEqual(wire.KIND_CANCELLED, worker.reply(call).error_kind)
        backend.release.set()
        return worker.call("ask", ["bob's question"]).value

    def test_a_connection_that_is_closed_at_a_cancel_gives_nobody_another_s_answer(self):
        code = next(block for block in code_blocks("deadlines.md") if "CancelledError" in block)
        self.assertEqual("answer to bob's question", self.ask_after_a_cancel(code))

    def test_a_connection_that_is_kept_at_a_cancel_does(self):
        code = next(block for block in code_blocks("deadlines.md") if "CancelledError" in block)
        code, count = re.subn(r"        writer\.close\(\).*\n", "", code)
        self.assertEqual(1, count)
        self.assertEqual("answer to slow secret of ann", self.ask_after_a_cancel(code))

    def test_a_function_that_is_marked_is_announced_so(self):
        code = next(block for block in code_blocks("deadlines.md") if "interruptible" in block)
        hello = self.worker(self.app("import keelback\n" + code)).hello
        self.assertEqual([True], [each["interruptible"] for each in hello["functions"]])


if __name__ == "__main__":
    unittest.main()
