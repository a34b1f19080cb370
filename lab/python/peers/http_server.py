"""FastAPI behind uvicorn: POST /v1/call/FUNCTION with a JSON array, like ours. Prints its port."""
import inspect
import socket
import sys

import fastapi
import uvicorn

from peers import work

app = fastapi.FastAPI()


@app.post("/v1/call/noop")
def noop(arguments: list = fastapi.Body()):
    return work.noop(*arguments)


@app.post("/v1/call/answer_after")
async def answer_after(arguments: list = fastapi.Body()):
    return await work.answer_after(*arguments)


def main() -> None:
    workers = int(sys.argv[1])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config("peers.http_server:app", log_level="error", access_log=False, workers=workers)
    if workers > 1:
        from uvicorn.supervisors import Multiprocess

        more = {}
        if "target" in inspect.signature(Multiprocess).parameters:  # older versions want to be told what to run
            more["target"] = uvicorn.Server(config).run
        Multiprocess(config, sockets=[listener], **more).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
