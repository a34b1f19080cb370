"""A language model server for tests: the OpenAI chat interface on loopback, answers from a script, faults on demand.

    with FakeLm() as lm:                      # or: python3 tests/support/fake_lm.py --listen 127.0.0.1:0
        configure_lm(model="openai/fake", api_base=lm.url, api_key="k")
        lm.fault("hang", count=1)             # or: PUT /control {"fault": "hang", "count": 1}

Faults: hang (accepts and never answers), hold (answers when the next fault is set), slow (answers after
delay_ms), 429, 500, reset (RST instead of an answer), garbage (an answer that is no JSON). `count` limits how many
requests one bites (null: all), `match` restricts it to requests whose body holds that text. GET /control tells what
it did: {"fault", "requests", "bitten", "hanging", "open", "open_max", "connections"}. `bitten` is the proof that a
fault bit; `hanging` counts requests that hang or are held, `open` all that are not answered yet. Standard library only.
"""
import argparse
import contextlib
import http.server
import json
import select
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "python"))
from keelback.apps.scripted_lm import GARBAGE, Script  # noqa: E402

FAULTS = ("hang", "hold", "slow", "429", "500", "reset", "garbage")
HANG_MAX_S = 600.0
BODY_MAX = 4 << 20


class _State:
    def __init__(self, script, api_key):
        self.script, self.api_key = Script(script), api_key
        self.lock = threading.Lock()
        self.changed = threading.Event()  # set when hanging requests must end
        self.fault, self.count, self.match, self.delay_s = None, None, "", 0.0
        self.requests, self.bitten, self.hanging = 0, 0, 0
        self.open, self.open_max, self.connections = 0, 0, 0

    def set_fault(self, fault, count=None, match="", delay_ms=1000):
        if fault not in (None, "none", *FAULTS):
            raise ValueError(f"fault: one of none, {', '.join(FAULTS)}, not {fault!r}")
        with self.lock:
            self.fault = None if fault == "none" else fault
            self.count, self.match, self.delay_s, self.bitten = count, match, delay_ms / 1000.0, 0
            self.changed.set()
            self.changed = threading.Event()

    def take(self, body):
        """The fault that this request meets, with its delay and the event that ends a hang."""
        with self.lock:
            self.requests += 1
            fault = self.fault
            if fault is None or self.match not in body or (self.count is not None and self.bitten >= self.count):
                return None, 0.0, self.changed
            self.bitten += 1
            return fault, self.delay_s, self.changed

    def opened(self):
        with self.lock:
            self.open += 1
            self.open_max = max(self.open_max, self.open)

    def add(self, **counts):
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def report(self):
        with self.lock:
            return {"fault": self.fault or "none", "requests": self.requests, "bitten": self.bitten,
                    "hanging": self.hanging, "open": self.open, "open_max": self.open_max,
                    "connections": self.connections}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def log_message(self, format, *args):
        pass

    def setup(self):
        self.server.state.add(connections=1)
        super().setup()

    def finish(self):
        try:
            super().finish()
        finally:
            self.server.state.add(connections=-1)

    def do_GET(self):
        if self.path == "/control":
            return self._reply(200, self.server.state.report())
        if self.path == "/v1/models":
            return self._reply(200, {"object": "list", "data": [{"id": "fake", "object": "model"}]})
        return self._reply(404, {"error": {"message": f"no {self.path} here"}})

    def do_PUT(self):
        try:
            self.server.state.set_fault(**json.loads(self._body()))
        except (TypeError, ValueError) as error:
            return self._reply(400, {"error": {"message": str(error)}})
        return self._reply(200, self.server.state.report())

    def do_POST(self):
        self.server.state.opened()
        try:
            self._answer()
        finally:
            self.server.state.add(open=-1)

    def _answer(self):
        state = self.server.state
        body = self._body()
        if self.path != "/v1/chat/completions":
            return self._reply(404, {"error": {"message": f"no {self.path} here"}})
        given = self.headers.get("Authorization", "").partition(" ")[2]
        if state.api_key is not None and given != state.api_key:
            return self._reply(401, {"error": {"message": f"Incorrect API key provided: {given}", "type": "auth"}})
        fault, delay_s, changed = state.take(body)
        if fault in ("hang", "hold"):
            left = self._hang(changed)
            if left or fault == "hang":
                self.close_connection = True
                return None
        if fault == "reset":
            return self._reset()
        if fault in ("429", "500"):
            message = "too many requests" if fault == "429" else "the model fell over"
            return self._reply(int(fault), {"error": {"message": message, "type": "fake"}})
        if fault == "slow" and self._left_within(delay_s, changed):
            return None
        request = json.loads(body)
        answer = state.script.answer(request["messages"])
        if self._left_within(answer.delay_s, changed):
            return None
        text = GARBAGE if fault == "garbage" else answer.text
        return self._reply(200, {
            "id": "fake", "object": "chat.completion", "created": int(time.time()), "model": request.get("model", "fake"),
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": len(body.split()), "completion_tokens": len(text.split()),
                      "total_tokens": len(body.split()) + len(text.split())},
        })

    def _body(self):
        length = int(self.headers.get("Content-Length", "0"))
        return self.rfile.read(min(length, BODY_MAX)).decode()

    def _left_within(self, seconds, changed):
        """Waits; true if the client left meanwhile. A changed fault ends the wait early."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not changed.is_set():
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.05))
            if readable:
                self.close_connection = True
                return True
        return False

    def _hang(self, changed):
        """True if the client left."""
        self.server.state.add(hanging=1)
        try:
            return self._left_within(HANG_MAX_S, changed)
        finally:
            self.server.state.add(hanging=-1)

    def _reset(self):
        # Linger with zero seconds: closing sends RST, not FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _reply(self, status, value):
        data = json.dumps(value).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, ValueError, OSError)):
            super().handle_error(request, client_address)


class FakeLm:
    """The server in this process; start it with `with`."""

    def __init__(self, script=None, api_key=None, listen=("127.0.0.1", 0)):
        self._server = _Server(listen, _Handler)
        self._server.state = self._state = _State(script, api_key)
        self.url = "http://%s:%d/v1" % self._server.server_address[:2]

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._state.set_fault("none")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, fault, count=None, match="", delay_ms=1000):
        self._state.set_fault(fault, count, match, delay_ms)

    def report(self):
        return self._state.report()


def main():
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible server with faults, for tests.")
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 picks one")
    parser.add_argument("--script", type=Path, help="JSON file, see keelback/apps/scripted_lm.py")
    parser.add_argument("--api-key", help="refuse other keys with 401")
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    script = json.loads(arguments.script.read_text()) if arguments.script else None
    with FakeLm(script, arguments.api_key, (host, int(port))) as lm:
        print(f"listening on {lm.url}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
