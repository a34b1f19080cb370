"""FastAPI behind uvicorn: POST /v1/call/noop with a JSON array, like ours. Prints its port."""
import socket
import sys

import fastapi
import uvicorn

from keelback.peers import work

app = fastapi.FastAPI()


@app.post("/v1/call/noop")
def noop(arguments: list):
    return work.noop(*arguments)


def main() -> None:
    workers = int(sys.argv[1])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config("keelback.peers.http_server:app", log_level="error", access_log=False, workers=workers)
    if workers > 1:
        from uvicorn.supervisors import Multiprocess

        Multiprocess(config, target=uvicorn.Server(config).run, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
