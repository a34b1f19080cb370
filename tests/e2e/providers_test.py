"""Functions that clients provide to Python code over HTTP: docs/providing-over-http.md against a real daemon."""
import concurrent.futures
import contextlib
import http.client
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import STRETCH, KeelbackTest, main, wait_until  # noqa: E402

APP = """
import keelback

@keelback.function
def price(fruit):
    return keelback.host.price(fruit)

@keelback.function
def named(**more):
    return keelback.host.price(**more)

@keelback.function
def told(fruit):
    try:
        return keelback.host.price(fruit)
    except keelback.CallFailed as failed:
        return {"type": type(failed).__name__, "outcome": failed.outcome}

@keelback.function
async def later(fruit):
    return await keelback.host.acall("price", fruit)

@keelback.function
def double(n):
    return 2 * n
"""
JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}


class Provider:
    """A client that provides these names from its making on. Not for several threads."""

    def __init__(self, daemon, names):
        self.daemon = daemon
        host, port = daemon.address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=30 * STRETCH)
        self.connection.request("GET", f"/v1/providers?names={names}")
        self.stream = self.connection.getresponse()
        assert self.stream.status == 200, self.stream.read()

    def event(self):
        """(name, data) of the next event; None at the end of the stream."""
        name = None
        while line := self.stream.readline().decode():
            if line.startswith("event: "):
                name = line[7:].rstrip("\n")
            elif line.startswith("data: "):
                return name, json.loads(line[6:])
        return None

    def asked(self):
        name, data = self.event()
        assert name == "request", (name, data)
        return data

    def answer(self, request, value, headers=None):
        return self.daemon.client().request("POST", f"/v1/providers/{request['id']}", json.dumps(value), headers or JSON)

    def close(self):
        self.stream.close()
        self.connection.close()


class OverHttp(KeelbackTest):
    def setUp(self):
        super().setUp()
        self.threads = self.enterContext(concurrent.futures.ThreadPoolExecutor(8))

    def calling(self, daemon, *arguments, **more):
        return self.threads.submit(daemon.client().call, *arguments, **more)

    def providing(self, daemon, names="price"):
        provider = Provider(daemon, names)
        self.addCleanup(provider.close)
        return provider

    def test_python_asks_and_the_client_answers(self):
        daemon = self.serve(self.app(APP))
        provider = self.providing(daemon)
        for function, arguments, sent in (("price", ["apple"], ["apple"]), ("named", {"fruit": "apple"}, {"fruit": "apple"}),
                                          ("later", ["apple"], ["apple"])):
            call = self.calling(daemon, function, arguments, session="ann", deadline_ms=60_000)
            request = provider.asked()
            self.assertEqual(("price", sent, "ann"), (request["name"], request["arguments"], request["session"]))
            self.assertTrue(0 < request["deadline_ms"] <= 60_000, request)
            self.assertEqual(204, provider.answer(request, {"euro": 1.5}).status)
            reply = call.result()
            self.assertEqual({"euro": 1.5}, reply.json, reply)
            self.assertEqual(str(request["call"]), reply.headers["Keelback-Call"])
            self.assertEqual(409, provider.answer(request, 1).status)
        self.assertEqual(3, daemon.metrics()['keelback_host_requests_total{outcome="ok"}'])

    def test_an_error_is_raised_in_python(self):
        daemon = self.serve(self.app(APP))
        provider = self.providing(daemon)
        call = self.calling(daemon, "told", ["pear"])
        provider.answer(provider.asked(), {"error": {"type": "KeyError", "message": "no such fruit"}}, PROBLEM)
        told = call.result().json
        self.assertEqual(("CallFailed", "error"), (told["type"], told["outcome"]["outcome"]))
        self.assertEqual("KeyError", told["outcome"]["error"]["type"])
        self.assertEqual("no such fruit", told["outcome"]["error"]["message"])

    def test_a_client_that_leaves_raises_host_gone(self):
        daemon = self.serve(self.app(APP))
        nobody = daemon.client().call("told", ["apple"]).json
        self.assertEqual(("HostGone", "host_gone"), (nobody["type"], nobody["outcome"]["outcome"]))
        provider = Provider(daemon, "price")
        call = self.calling(daemon, "told", ["apple"])
        provider.asked()
        provider.close()
        gone = call.result().json
        self.assertEqual(("HostGone", "host_gone"), (gone["type"], gone["outcome"]["outcome"]))
        self.assertEqual(1, daemon.metrics()['keelback_host_requests_total{outcome="host_gone"}'])

    def test_a_call_that_ends_cancels_its_request(self):
        daemon = self.serve(self.app(APP))
        provider = self.providing(daemon)
        call = self.calling(daemon, "price", ["apple"], deadline_ms=300)
        request = provider.asked()
        self.assertEqual("timeout", call.result().outcome)
        self.assertEqual(("cancel", {"id": request["id"]}), provider.event())
        self.assertEqual(409, provider.answer(request, 1).status)

    def test_the_one_with_the_fewest_open_requests_is_asked(self):
        daemon = self.serve(self.app(APP), workers=4)
        first, second = self.providing(daemon), self.providing(daemon)
        calls = [self.calling(daemon, "price", [n]) for n in range(4)]
        requests = [(provider, provider.asked()) for provider in (first, second) for _ in range(2)]  # two each
        for provider, request in requests:
            self.assertEqual(204, provider.answer(request, request["arguments"][0]).status)
        self.assertEqual([0, 1, 2, 3], [call.result().json for call in calls])

    def test_a_provider_calls_the_pool_for_the_call_that_asks(self):
        daemon = self.serve(self.app(APP))
        provider = self.providing(daemon)
        call = self.calling(daemon, "price", ["apple"])
        request = provider.asked()
        nested = daemon.client().call("double", [21], Keelback_Parent=str(request["call"]))
        self.assertEqual(42, nested.json, nested)
        provider.answer(request, nested.json)
        self.assertEqual(42, call.result().json)
        late = daemon.client().call("double", [1], Keelback_Parent=str(request["call"]))
        self.assertEqual(("cancelled", "none"), (late.outcome, late.json["effect"]), "its parent has ended")

    def test_a_call_that_would_wait_for_its_parent_is_refused_and_says_why(self):
        daemon = self.serve(self.app(APP), workers=1)
        provider = self.providing(daemon)
        call = self.calling(daemon, "price", ["apple"])
        request = provider.asked()
        nested = daemon.client().call("double", [1], Keelback_Parent=str(request["call"]))
        self.assertEqual(("overloaded", "would_deadlock"), (nested.outcome, nested.json.get("reason")), nested)
        provider.answer(request, 1)
        self.assertEqual(1, call.result().json)

    # Goal: a drain finishes what was accepted, with the functions that it needs; then the stream ends in good form.
    def test_a_drain_keeps_the_providers_of_accepted_calls(self):
        daemon = self.serve(self.app(APP))
        provider = self.providing(daemon)
        call = self.calling(daemon, "price", ["apple"])
        request = provider.asked()
        daemon.process.send_signal(signal.SIGTERM)

        def draining():
            with contextlib.suppress(OSError):
                return daemon.client().get("/readyz").status == 503

        wait_until(draining, "the daemon drains")
        self.assertEqual(204, provider.answer(request, 1.5).status)
        self.assertEqual(1.5, call.result().json)
        self.assertIsNone(provider.event())
        provider.close()
        self.assertEqual(0, daemon.wait())


if __name__ == "__main__":
    main()
