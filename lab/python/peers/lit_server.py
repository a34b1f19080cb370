"""LitServe with enable_async: POST /v1/call/answer_after with a JSON array, like ours. Prints its port."""
import sys

import litserve

from peers import work
from peers.ports import free_port


class Api(litserve.LitAPI):
    def setup(self, device):
        pass

    async def decode_request(self, request):
        return request

    async def predict(self, arguments):
        return await work.answer_after(*arguments)

    async def encode_response(self, output):
        return output


def main() -> None:
    server = litserve.LitServer(Api(enable_async=True, api_path="/v1/call/answer_after"), accelerator="cpu", workers_per_device=int(sys.argv[1]), fast_queue=True)
    port = free_port()
    print(port, flush=True)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False, pretty_logs=False)


if __name__ == "__main__":
    main()
