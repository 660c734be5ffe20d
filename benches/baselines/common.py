"""What both baselines share beside the model: the routes, the command line and the processes."""
import argparse
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from model import GRAPH_LEVELS


class Item(BaseModel):
    prompt: str
    responses: list[str]


class ScoreRequest(BaseModel):
    items: list[Item]


def make_app(rewards, lifespan=None):
    """The routes, over an async function from texts to the rewards of each."""

    app = FastAPI(lifespan=lifespan)

    @app.post("/score")
    async def score(request: Request):
        try:
            # The body is no parameter: `json.loads` would accept a text with half a surrogate pair, which fails
            # later.
            items = ScoreRequest.model_validate_json(await request.body()).items
        except ValidationError as error:
            # The input is not repeated, as JSON can't be written from all that it can hold.
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            return JSONResponse({"detail": problems}, status_code=422)
        rest = iter(await rewards([response for item in items for response in item.responses]))
        return JSONResponse({"items": [{"rewards": [next(rest) for _ in item.responses]} for item in items]})

    @app.get("/health")
    async def health():
        return {"status": "ok"}

    return app


def parser(description, workers):
    """The command line; `workers` says what --workers counts."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--bundle", type=pathlib.Path, default=root / "models/default", metavar="DIR")
    parser.add_argument("--port", type=int, default=9000, metavar="N", help="on 127.0.0.1; default: 9000")
    n_cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=n_cores, metavar="N", help=f"{workers}; default: one per core")
    parser.add_argument("--graph-level", choices=GRAPH_LEVELS, default="basic", help="default: basic")
    return parser


class Server(uvicorn.Server):
    """uvicorn, telling when it can answer."""

    def __init__(self, app, tell):
        options = {"loop": "uvloop", "http": "httptools", "ws": "none", "access_log": False, "log_level": "warning"}
        # A benchmark's client may pause for longer than uvicorn's five seconds and find its connection closed.
        super().__init__(uvicorn.Config(app, **options, timeout_keep_alive=60, timeout_graceful_shutdown=2))
        self.tell = tell

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.tell()


def serve(open_app, arguments, n_processes):
    """Serves `open_app(arguments)` from processes that share a socket, until SIGTERM or until one of them ends."""
    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=2048)

    def announce():
        print(f"listening on {arguments.port}", flush=True)

    if n_processes == 1:
        Server(open_app(arguments), announce).run(sockets=[listener])
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        # The exit of Python ends its daemons and waits for them.
        signal.signal(number, lambda *_: sys.exit())
    # A fork would copy the locks of ONNX Runtime's threads without the threads.
    context = multiprocessing.get_context("spawn")
    warm, tell = context.Pipe(duplex=False)
    work = (open_app, arguments, listener, tell)
    workers = [context.Process(target=_work, args=work, daemon=True) for _ in range(n_processes)]
    for worker in workers:
        worker.start()
    ends = {worker.sentinel for worker in workers}
    n_warm = 0
    while not ends.intersection(multiprocessing.connection.wait([warm, *ends])):
        warm.recv()
        n_warm += 1
        if n_warm == n_processes:
            announce()
    sys.exit("a worker ended by itself")


def _work(open_app, arguments, listener, tell):
    def end_with_parent():
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    # A parent that is killed can't end its workers.
    threading.Thread(target=end_with_parent, daemon=True).start()
    Server(open_app(arguments), lambda: tell.send(None)).run(sockets=[listener])
