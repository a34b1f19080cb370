"""mosec: POST /v1/call/noop_batch and /v1/call/model_batch with a JSON array, like ours. Prints its port."""
import sys

import mosec

from peers import work
from peers.ports import free_port


class Noop(mosec.Worker):
    def forward(self, data):
        return work.noop_batch([each[0] for each in data])


class Model(mosec.Worker):
    def __init__(self):
        super().__init__()
        self._model = work.Model()

    def forward(self, data):
        return self._model([each[0] for each in data])


def main() -> None:
    workers, port = int(sys.argv[1]), free_port()
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    print(port, flush=True)
    server = mosec.Server()
    limits = {"num": workers, "max_batch_size": work.BATCH, "max_wait_time": int(work.BATCH_WAIT_S * 1e3)}
    server.register_runtime({"/v1/call/noop_batch": [mosec.Runtime(Noop, **limits)], "/v1/call/model_batch": [mosec.Runtime(Model, **limits)]})
    server.run()


if __name__ == "__main__":
    main()
