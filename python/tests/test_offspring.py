"""Processes that a call starts: those of a stopped call end with it, all others stay."""

import concurrent.futures
import contextlib
import ctypes
import itertools
import os
import signal
import sys
import time
import unittest
from pathlib import Path

from supervisor import SupervisorTest, is_dead, wait_until

from keelback import offspring, wire

PR_SET_CHILD_SUBREAPER = 36

APP = """
    import asyncio, ctypes, multiprocessing, os, subprocess, sys, time, keelback

    SLEEP = ["sleep", "300"]
    kept = []

    def announce(path, *pids):
        with open(path + "~", "w") as file:
            file.write(" ".join(map(str, pids)))
        os.rename(path + "~", path)

    def wait():
        while True:
            time.sleep(0.01)

    @keelback.function
    def popen(path):
        announce(path, subprocess.Popen(SLEEP).pid)
        wait()

    @keelback.function
    def a_session_of_its_own(path):
        announce(path, subprocess.Popen(SLEEP, start_new_session=True).pid)
        wait()

    @keelback.function
    def without_an_environment(path):
        child = subprocess.Popen(SLEEP, start_new_session=True, close_fds=False, env={})
        announce(path, child.pid)
        wait()

    @keelback.function
    def run(path):
        subprocess.run(["sh", "-c", f"echo $$ > {path}~; mv {path}~ {path}; exec sleep 300"])

    @keelback.function
    def a_tree(path):
        first = f"sleep 300 & echo $! > {path}~"
        second = f"setsid sleep 300 & echo $! $$ >> {path}~; mv {path}~ {path}"
        subprocess.Popen(["sh", "-c", f"({first}; {second}; wait) & wait"])
        wait()

    @keelback.function
    def forks(path):
        pid = os.fork()
        if pid == 0:
            time.sleep(300)
            os._exit(0)
        announce(path, pid)
        wait()

    @keelback.function
    def spawns(path):
        announce(path, os.posix_spawn("/bin/sleep", SLEEP, os.environ))
        wait()

    def fork_of_the_c_library():
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            os.execv("/bin/sleep", SLEEP)
        return pid

    @keelback.function
    def behind_python_s_back(path):
        announce(path, fork_of_the_c_library())
        wait()

    @keelback.function
    def multiprocessing_fork(path):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
        child.start()
        announce(path, child.pid)
        wait()

    @keelback.function
    def multiprocessing_spawn(path):
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
        child.start()
        announce(path, child.pid)
        wait()

    @keelback.function
    def in_the_background(path):
        os.system(f"sleep 300 & echo $! > {path}~; mv {path}~ {path}")
        wait()

    def become_a_daemon(path, then):
        if os.fork() == 0:
            os.setsid()
            pid = os.fork()
            if pid:
                announce(path, pid)
                os._exit(0)
            then()
            os._exit(0)
        os.wait()

    @keelback.function
    def a_daemon(path):
        become_a_daemon(path, lambda: time.sleep(300))
        wait()

    @keelback.function
    def a_daemon_with_another_program(path):
        become_a_daemon(path, lambda: os.execvp("sleep", SLEEP))
        wait()

    @keelback.function
    def swallows(path):
        try:
            popen(path)
        except KeyboardInterrupt:
            return "swallowed"

    @keelback.function
    def yields(path):
        yield 1
        popen(path)

    @keelback.function
    def forks_on_and_on(path):
        script = "while :; do sleep 300 & sleep 300 & done"
        announce(path, subprocess.Popen(["sh", "-c", script]).pid)
        wait()

    @keelback.function
    async def coroutine(path):
        child = await asyncio.create_subprocess_exec(*SLEEP)
        announce(path, child.pid)
        await child.wait()

    @keelback.function
    async def coroutine_with_a_shell(path):
        second = f"echo $$ > {path}~; mv {path}~ {path}; sleep 300"
        child = await asyncio.create_subprocess_shell(f"sleep 300 | ({second})",
                                                      stdout=asyncio.subprocess.PIPE)
        await child.communicate()

    # ---- what stays

    @keelback.function
    def keeps(how):
        if how == "popen":
            kept.append(subprocess.Popen(SLEEP))
        elif how == "fork":
            pid = os.fork()
            if pid == 0:
                time.sleep(300)
                os._exit(0)
            return pid
        elif how == "c library":
            return fork_of_the_c_library()
        elif how == "multiprocessing":
            context = multiprocessing.get_context("fork")
            kept.append(context.Process(target=time.sleep, args=(300,), daemon=True))
            kept[-1].start()
        return kept[-1].pid

    @keelback.function
    def stopped():
        wait()

    @keelback.function
    def has_a_child_that_ends(path):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], os.environ)
        while open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
            time.sleep(0.001)
        kept.append(subprocess.Popen(SLEEP))
        announce(path, pid)
        wait()

    @keelback.function
    def status_of(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @keelback.function
    def status_of_the_last():
        return kept[-1].wait()
"""


def adopt_orphans(wanted):
    """This process adopts orphans below it, as the guard does."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0


class Notes(unittest.TestCase):
    def test_threads_that_start_processes_at_once_get_them_all_and_the_notes_stay_few(self):
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        self.addCleanup(offspring.forget_starts)
        sys.setswitchinterval(1e-6)
        pids = itertools.count(1)
        start = offspring._noting(lambda: next(pids))

        def start_many():
            return [start() for _ in range(30_000)]

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            started = [done.result() for done in [pool.submit(start_many) for _ in range(6)]]
        self.assertEqual(6 * 30_000, len({pid for each in started for pid in each}))
        start()
        self.assertEqual(offspring._NOTED_MAX, len(offspring._noted))


class OffspringTest(SupervisorTest):
    def setUp(self):
        adopt_orphans(True)
        self.addCleanup(adopt_orphans, False)
        self.w = self.make()
        self.path = os.path.join(self._folder, "pids")

    def pids(self):
        """What the call has announced."""
        def read():
            if not os.path.exists(self.path):
                return None
            with open(self.path) as file:
                return [int(word) for word in file.read().split()]

        pids = wait_until(read, f"the call has said what it started; log {self.w.log()}")
        os.unlink(self.path)
        self.addCleanup(self.kill, pids)
        return pids

    def make(self):
        return self.worker(self.app(APP))

    def kill(self, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)  # an orphan

    def start(self, function, **options):
        call = self.w.submit(function, [self.path], **options)
        return call, self.pids()

    def stop(self, call, asynchronous=False):
        self.w.cancel(call)
        if not asynchronous:
            self.w.interrupt(call)
        return self.w.reply(call)


class OfAStoppedCall(OffspringTest):
    FUNCTIONS = (
        "popen", "a_session_of_its_own", "without_an_environment", "run", "a_tree", "forks", "spawns",
        "multiprocessing_fork", "multiprocessing_spawn", "behind_python_s_back",
        "in_the_background", "a_daemon", "a_daemon_with_another_program",
    )

    def test_are_dead_when_its_answer_comes(self):
        for function in self.FUNCTIONS:
            call, pids = self.start(function)
            self.assertFalse(any(map(is_dead, pids)), function)
            if function.endswith("another_program"):  # amid its exec nothing of it can be recognised
                wait_until(lambda p=pids: Path(f"/proc/{p[0]}/comm").read_text() == "sleep\n", "it is that program")
            reply = self.stop(call)
            self.assertEqual((wire.KIND_CANCELLED, False), (reply.error_kind, reply.unclean), function)
            self.assertEqual([True] * len(pids), [is_dead(pid) for pid in pids], function)
            if function != "run":  # which kills its child by itself
                self.w.wait_log(f"{function} was stopped; what it had started is killed: ")
                self.assertIn(f"({pids[0]})", self.w.log())

    def test_are_dead_when_a_coroutine_is_cancelled_and_its_worker_is_clean(self):
        for function in ("coroutine", "coroutine_with_a_shell"):
            call, pids = self.start(function)
            pids += descendants(pids[0])
            reply = self.stop(call, asynchronous=True)
            self.assertEqual((wire.KIND_CANCELLED, False), (reply.error_kind, reply.unclean),
                             self.w.log())
            self.assertTrue(all(map(is_dead, pids)), function)

    def test_are_dead_also_if_it_swallows_the_interrupt_or_streams(self):
        for function, stream in (("swallows", False), ("yields", True)):
            call, pids = self.start(function, stream=stream)
            self.stop(call)
            self.assertTrue(all(map(is_dead, pids)), function)

    def test_are_dead_without_a_cancel_that_tells_the_time(self):
        call, pids = self.start("popen")
        self.w.interrupt(call)
        self.w.reply(call)
        self.assertTrue(all(map(is_dead, pids)))

    def test_cannot_outrun_the_search(self):
        call, pids = self.start("forks_on_and_on")
        below = wait_until(lambda: len(found := descendants(pids[0])) > 20 and found, "it forks")
        self.addCleanup(self.kill, below)
        self.stop(call)
        self.assertTrue(is_dead(pids[0]))
        self.assertEqual([], [pid for pid in processes_in_group(self.w.pid)
                              if pid != self.w.pid and not is_dead(pid)])

    def test_can_be_waited_for_by_user_code(self):
        call, pids = self.start("has_a_child_that_ends")
        self.stop(call)
        self.assertEqual(7, self.w.call("status_of", pids).value, "it had ended by itself")
        self.assertEqual(-9, self.w.call("status_of_the_last").value)


class OfAStoppedCallOfAnExecutedWorker(OffspringTest):
    def make(self):
        return self.exec_worker(self.app(APP)).wait_ready()

    def test_are_dead_when_its_answer_comes(self):
        for function in ("popen", "in_the_background", "a_daemon", "a_daemon_with_another_program"):
            call, pids = self.start(function)
            self.stop(call)
            self.assertTrue(is_dead(pids[0]), function)


class OfOtherCalls(OffspringTest):
    def test_stay_also_when_they_began_in_the_tick_before_the_stopped_call(self):
        for how in ("popen", "fork", "multiprocessing"):
            for _ in range(8):
                pid = self.w.call("keeps", [how]).value
                self.addCleanup(self.kill, [pid])
                call = self.w.submit("stopped")
                self.w.wait_started(call)
                self.stop(call)
                self.assertFalse(is_dead(pid), how)

    def test_stay_if_something_else_than_python_started_them_and_the_tick_tells_them_apart(self):
        pid = self.w.call("keeps", ["c library"]).value
        self.addCleanup(self.kill, [pid])
        tick = began(pid)
        wait_until(lambda: ticks_now() > tick, "the next tick has begun")
        call = self.w.submit("stopped")
        self.w.wait_started(call)
        self.stop(call)
        self.assertFalse(is_dead(pid))

    def test_stay_after_calls_that_end_by_themselves(self):
        pids = [self.w.call("keeps", ["popen"]).value for _ in range(2)]
        self.addCleanup(self.kill, pids)
        self.assertEqual([False, False], [is_dead(pid) for pid in pids])
        self.assertNotIn("killed", self.w.log())


def descendants(pid):
    found = []
    todo = [pid]
    while todo:
        try:
            with open(f"/proc/{(at := todo.pop())}/task/{at}/children") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            continue
        found += children
        todo += children
    return found


def processes_in_group(group):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                if int(file.read().rsplit(")", 1)[1].split()[2]) == group:
                    found.append(int(name))
        except OSError:
            continue
    return found


def began(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def ticks_now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") // 1_000_000_000


if __name__ == "__main__":
    unittest.main()
