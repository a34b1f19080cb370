"""What a call that was stopped at its deadline leaves: nothing."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, KeelbackTest, alive, main, wait_until  # noqa: E402

PROGRAMS = ROOT / "tests" / "apps" / "programs.py"


class Programs(KeelbackTest):
    # 1.2 s from the interrupt to the kill, which would take the helper with it. So would the end of a worker that is
    # replaced after the interrupt.
    SETTINGS = {"calls.grace": "4s", "calls.after_interrupt": "keep"}

    def daemon(self, zygote):
        settings = {**self.SETTINGS, "workers.zygote": zygote}
        return self.serve(PROGRAMS, workers=1, settings=settings).prewarm(1)

    def started_by(self, daemon, function):
        """The pid of the program that the function started before its deadline stopped it."""
        path = self.tmp / f"{function}.pid"
        reply = daemon.client().call(function, [str(path)], deadline_ms=1000)
        self.assertEqual("timeout", reply.outcome, reply)
        pid = int(path.read_text())
        path.unlink()
        return pid

    def test_that_a_stopped_call_started_end_with_it_and_others_stay(self):
        for zygote in ("auto", "off"):
            daemon = self.daemon(zygote)
            for function in ("popen", "background", "run", "coroutine"):
                # Right behind one another: the helper and the program begin in one tick of the kernel.
                helper = daemon.client().call("helper").json
                program = self.started_by(daemon, function)
                what = f"{function} with workers.zygote={zygote}"
                wait_until(lambda p=program: not alive(p), f"the program of {what} has ended", 30)
                self.assertTrue(alive(helper), f"{what}: an earlier call's program is none of its business")
            self.assertEqual("ok", daemon.client().call("helper").outcome)
            wait_until(lambda d=daemon: "popen was stopped; what it had started is killed: sleep (" in d.log_text(),
                       "the log says so")
            daemon.stop()

    def test_end_with_a_worker_that_had_to_be_killed(self):
        daemon = self.daemon("auto")
        before = daemon.workers()[0]
        program = self.started_by(daemon, "system")
        wait_until(lambda: not alive(program), "the program has ended", 30)
        daemon.wait_replaced(before)
        daemon.stop()


if __name__ == "__main__":
    main()
