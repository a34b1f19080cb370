"""A reload of a running daemon, in both start modes: which code its callers meet after the answer, and what its sessions keep."""
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, concurrently, main, wait_until  # noqa: E402

APP = '''
import keelback
{extra}
@keelback.function
def version():
    return {version}

@keelback.function
def bump():
    state = keelback.session().state
    state["n"] = state.get("n", 0) + 1
    return [state["n"], {version}]

@keelback.function
def hold():
    keelback.session().state["it"] = object()
    return {version}
'''
MODES = ("force", "off")


class Reload(KeelbackTest):
    def code(self, version, extra=""):
        return APP.format(version=version, extra=extra)

    def serve_version(self, version, **options):
        app = self.app(self.code(version))
        daemon = self.serve(app, workers=4, **options).prewarm(4)
        return app, daemon

    def reload(self, daemon):
        return daemon.client().request("POST", "/v1/reload", headers={"Content-Type": "application/json"})

    def test_after_the_answer_no_stateless_call_meets_old_code_and_400_sessions_go_on(self):
        for mode in MODES:
            with self.subTest(zygote=mode):
                app, daemon = self.serve_version(1, settings={"workers.zygote": mode, "workers.drain_timeout": "60s"})
                names = [f"s{n}" for n in range(400)]
                client = daemon.client()
                self.assertEqual([[1, 1]] * 400, [client.call("bump", session=name).json for name in names])
                asked, stop = [], threading.Event()

                def keep_asking():
                    mine = daemon.client()
                    while not stop.is_set():
                        at = time.monotonic()
                        asked.append((at, mine.call("version").json))

                askers = [threading.Thread(target=keep_asking) for _ in range(3)]
                for asker in askers:
                    asker.start()
                app.write_text(self.code(2))
                begun = time.monotonic()
                reply = self.reload(daemon)
                answered = time.monotonic()
                self.assertEqual((200, True), (reply.status, reply.json["reloaded"]), reply)
                self.assertEqual({"workers", "sessions", "until_s"}, set(reply.json["draining"]))
                self.assertEqual([[2, 2]] * 400, [client.call("bump", session=name).json for name in names])
                stop.set()
                for asker in askers:
                    asker.join()
                late = [value for at, value in asked if at > answered]
                self.assertGreater(len(late), 20)
                self.assertEqual({2}, set(late), "code that stateless calls meet after the answer")
                self.assertEqual({1, 2}, {value for _, value in asked}, "None would be a call that failed")
                self.assertLess(answered - begun, 30, "it waits for no session's workers.drain_timeout")
                self.assertEqual(0, daemon.pool()["sessions"]["lost"])
                wait_until(lambda: daemon.pool()["leaving"] == {"workers": 0, "sessions": 0, "until_s": 0}, "the old workers are gone", 20)

    def test_sessions_that_cannot_move_hold_all_old_workers_at_once_and_the_answer_says_so(self):
        for mode in MODES:
            with self.subTest(zygote=mode):
                app, daemon = self.serve_version(1, settings={"workers.zygote": mode, "workers.drain_timeout": "3s"})
                client = daemon.client()
                for n in range(4):
                    self.assertEqual(1, client.call("hold", session=f"s{n}").json)
                app.write_text(self.code(2))
                draining = self.reload(daemon).json["draining"]
                self.assertEqual((4, 4), (draining["workers"], draining["sessions"]))
                self.assertTrue(0 < draining["until_s"] <= 3, draining)
                self.assertIn("4 replaced workers still serve 4 sessions", self.run_cli("status", "--url", daemon.address).stdout)
                self.assertEqual({2}, {client.call("version").json for _ in range(20)})
                self.assertEqual([1] * 4, [client.call("hold", session=f"s{n}").json for n in range(4)], "its own sessions it serves on")
                wait_until(lambda: daemon.pool()["leaving"]["workers"] == 0, "they end together", 20)
                self.assertEqual(["session_lost"] * 4, concurrently([lambda n=n: daemon.client().call("bump", session=f"s{n}").outcome for n in range(4)]))

    def test_new_code_whose_workers_do_not_start_is_told_and_the_old_code_serves(self):
        app, daemon = self.serve_version(1, settings={"workers.zygote": "off"})
        marker = self.tmp / "once"
        # The first worker with the new code, the probe, starts; the others do not.
        app.write_text(self.code(2, f"import os\nif os.path.exists({str(marker)!r}): raise RuntimeError('only once')\nopen({str(marker)!r}, 'w').close()\n"))
        reply = self.reload(daemon)
        self.assertEqual(500, reply.status, reply)
        self.assertIn("only once", reply.json["detail"])
        self.assertEqual({1}, {daemon.client().call("version").json for _ in range(20)})
        app.write_text(self.code(3))
        self.assertEqual(200, self.reload(daemon).status)
        self.assertEqual({3}, {daemon.client().call("version").json for _ in range(20)})


if __name__ == "__main__":
    main()
