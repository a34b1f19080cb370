"""LitServe with batches: POST /v1/call/noop_batch and /v1/call/model_batch with a JSON array, like ours. Prints its port."""
import sys

import litserve

from peers import work
from peers.ports import free_port


class Noop(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request[0]

    def batch(self, inputs):
        return inputs

    def predict(self, values):
        return work.noop_batch(values)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


class Model(Noop):
    def setup(self, device):
        self._model = work.Model()

    def predict(self, values):
        return self._model(values)


def main() -> None:
    limits = {"max_batch_size": work.BATCH, "batch_timeout": work.BATCH_WAIT_S}
    apis = [Noop(api_path="/v1/call/noop_batch", **limits), Model(api_path="/v1/call/model_batch", **limits)]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=int(sys.argv[1]), fast_queue=True)
    port = free_port()
    print(port, flush=True)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False, pretty_logs=False)


if __name__ == "__main__":
    main()
