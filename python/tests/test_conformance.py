"""The conformance functions, on a worker started by exec and on one forked by the zygote."""

import os
import signal
import time
import unittest

from supervisor import CONFORMANCE, RESULT_MAX, SupervisorTest

from keelback import wire


class Forked(SupervisorTest):
    def setUp(self):
        self.w = self.make()

    def make(self):
        return self.worker(CONFORMANCE)

    def test_values_come_back_as_they_went(self):
        for value in (None, True, 0, -(2**70), 1.5, "é😀\u2028\x00", [], {}, {"a": [1, {"b": None}]}, "x" * 300_000):
            reply = self.w.call("echo", {"value": value})
            self.assertEqual((wire.RESULT, value, False), (reply.kind, reply.value, reply.unclean))
            self.assertEqual(value, self.w.call("echo", [value]).value)

    def test_a_session_counts_for_itself(self):
        ann = {"session": "ann", "birth": 11, "epoch": 1}
        bob = {"session": "bob", "birth": 22, "epoch": 1}
        self.assertEqual(1, self.w.call("counter", opens=True, **ann).value)
        self.assertEqual(1, self.w.call("counter", opens=True, **bob).value)
        self.assertEqual([2, 3], [self.w.call("counter", **ann).value for _ in range(2)])
        self.assertEqual(2, self.w.call("counter", **bob).value)

    def test_items_are_a_stream_or_a_list(self):
        reply = self.w.call("items", [5], stream=True)
        self.assertEqual((wire.END, [0, 1, 2, 3, 4]), (reply.kind, reply.items))
        reply = self.w.call("items", {"n": 40})
        self.assertEqual((wire.RESULT, list(range(40)), []), (reply.kind, reply.value, reply.items))
        self.assertEqual("not a stream", self.w.call("echo", ["not a stream"], stream=True).value)

    def test_failures_are_described(self):
        reply = self.w.call("fail", ["no é"])
        self.assertEqual((wire.KIND_ERROR, "ValueError", "no é"), (reply.error_kind, reply.error["type"], reply.error["message"]))
        self.assertIn("conformance.py", reply.error["traceback"])
        self.assertEqual(wire.KIND_BAD_REQUEST, self.w.call("fail", ["one", "two"]).error_kind)
        self.assertEqual(wire.KIND_UNKNOWN_FUNCTION, self.w.call("nothere").error_kind)
        reply = self.w.call("unserialisable")
        self.assertEqual((wire.KIND_ERROR, "keelback.ResultError"), (reply.error_kind, reply.error["type"]))
        self.assertIn("object", reply.error["message"])

    def test_results_are_limited_by_the_live_mark(self):
        self.assertEqual("x" * 100, self.w.call("blob", [100]).value)
        self.w.words[RESULT_MAX] = 101
        self.assertEqual("x" * 99, self.w.call("blob", [99]).value)
        reply = self.w.call("blob", [100])
        self.assertIn("too large: 102 bytes", reply.error["message"])
        self.w.words[RESULT_MAX] = 0
        self.assertIn("too large", self.w.call("blob", [16 << 20]).error["message"])
        self.assertEqual((16 << 20) - 2, len(self.w.call("blob", [(16 << 20) - 2]).value))

    def test_busy_functions_say_how_long_they_took(self):
        for function in ("sleep", "spin", "hold"):
            began = time.monotonic()
            self.assertEqual(30, self.w.call(function, [30]).value)
            self.assertGreaterEqual(time.monotonic() - began, 0.03, function)

    def test_print_is_a_log_line(self):
        self.assertEqual(3, self.w.call("log", ["a line é", 3]).value)
        self.assertEqual("a line é\n" * 3, self.w.wait_log("a line é\na line é\na line é\n"))

    def test_pid_is_the_workers(self):
        self.assertEqual(self.w.pid, self.w.call("pid").value)
        self.assertEqual(self.w.pid, self.w.hello["pid"])

    def test_exit_and_crash_are_deaths_with_their_status(self):
        self.w.submit("exit", [7])
        self.assertIsNone(self.w.receive())
        self.assertEqual(7, self.w.wait())

    def test_crash_dies_of_the_signal(self):
        self.w.submit("crash", [int(signal.SIGKILL)])
        self.assertIsNone(self.w.receive())
        self.assertEqual(-signal.SIGKILL, self.w.wait())

    def test_a_segmentation_fault_leaves_its_stack_in_the_log(self):
        self.w.submit("crash", [int(signal.SIGSEGV)])
        self.assertIsNone(self.w.receive())
        self.assertEqual(-signal.SIGSEGV, self.w.wait())
        self.assertIn("in crash", self.w.wait_log("Segmentation fault"))

    def test_shutdown_ends_with_zero(self):
        self.assertEqual(0, self.w.shutdown())

    def test_the_end_of_the_data_socket_ends_the_worker(self):
        self.w.data.close()
        self.assertEqual(1, self.w.wait())


class Executed(Forked):
    def make(self):
        return self.exec_worker(CONFORMANCE).wait_ready()


class Announced(SupervisorTest):
    def test_both_ways_to_start_announce_the_same_application(self):
        executed = self.exec_worker(CONFORMANCE).wait_ready().hello
        zygote = self.zygote(CONFORMANCE)
        ready = zygote.expect("ready")
        forked = zygote.fork("3.17").wait_ready().hello
        for hello in (executed, forked, ready["hello"]):
            hello.pop("pid")
        self.assertEqual(executed, forked)
        self.assertEqual(executed, ready["hello"])
        self.assertEqual("conformance", executed["app"])
        self.assertTrue(executed["runtime"].startswith("python 3."))
        functions = {function["name"]: function for function in executed["functions"]}
        wanted = {"echo", "counter", "sleep", "fail", "crash", "exit", "hold", "spin", "items", "blob", "log", "pid", "unserialisable"}
        self.assertLessEqual(wanted, set(functions))
        self.assertEqual([False, True], [functions[name]["stream"] for name in ("echo", "items")])


class Examples(SupervisorTest):
    def test_hello_and_counter(self):
        root = os.path.dirname(os.path.dirname(os.path.dirname(CONFORMANCE)))
        self.assertEqual("Hello, Ada!", self.worker(os.path.join(root, "examples", "hello.py")).call("greet", {"name": "Ada"}).value)
        counter = self.worker(os.path.join(root, "examples", "counter.py"))
        session = {"session": "s", "birth": 5, "epoch": 1}
        self.assertEqual(1, counter.call("count", opens=True, **session).value)
        self.assertEqual([2, 3, 3], [counter.call(name, **session).value for name in ("count", "count", "peek")])
        self.assertIn("has no session", counter.call("count").error["message"])


if __name__ == "__main__":
    unittest.main()
