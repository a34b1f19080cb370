"""A gRPC server that calls the same function; generic handlers, JSON bytes, so no generated code is needed. Prints its port."""
import json
import sys
from concurrent import futures

import grpc

from peers import work


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(int(sys.argv[1])))

    def noop(request, _context):
        return json.dumps(work.noop(*json.loads(request))).encode()

    handler = grpc.method_handlers_generic_handler("peer", {"noop": grpc.unary_unary_rpc_method_handler(noop)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
