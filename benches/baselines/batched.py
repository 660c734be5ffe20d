"""Rewards over HTTP with dynamic batching: one process with a queue, and for each core a session with its thread.

An idle session takes a batch of what waits at once, without waiting for company. What waits is sorted by length, so
that a batch needs little padding.
"""
import asyncio
import contextlib
import math
from concurrent.futures import ThreadPoolExecutor

import common
from model import Model


class Batcher:
    """Texts that wait for a session.

    What waits is sorted as a whole, and all of it is taken before anything that came later: no text is passed over for
    ever.
    """

    def __init__(self, models, max_batch):
        self.models = models
        self.max_batch = max_batch
        self.threads = ThreadPoolExecutor(len(models))
        self.queue = asyncio.Queue()
        self.cutting = asyncio.Lock()
        self.sorted = []
        self.size = max_batch

    async def rewards(self, texts):
        """The rewards of each text, once all are known."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in texts]
        for entry in zip(texts, futures):
            self.queue.put_nowait(entry)
        return await asyncio.gather(*futures)

    async def run(self, model):
        """Answers batches one after another, by one session."""
        loop = asyncio.get_running_loop()
        while True:
            texts, futures = zip(*await self._next_batch())
            try:
                rewards = await loop.run_in_executor(self.threads, model.rewards, texts)
            except Exception as error:
                _settle(futures, asyncio.Future.set_exception, [error] * len(futures))
            else:
                _settle(futures, asyncio.Future.set_result, rewards)

    async def _next_batch(self):
        async with self.cutting:
            if not self.sorted:
                self.sorted.append(await self.queue.get())
                while not self.queue.empty():
                    self.sorted.append(self.queue.get_nowait())
                self.sorted.sort(key=lambda entry: len(entry[0].ids))
                # The texts are shared evenly, so that no session is idle while another has all that waited.
                self.size = min(self.max_batch, math.ceil(len(self.sorted) / len(self.models)))
            batch = self.sorted[-self.size :]
            del self.sorted[-self.size :]
            return batch


def _settle(futures, settle, values):
    for future, value in zip(futures, values):
        # The future is canceled if its request was dropped.
        if not future.cancelled():
            settle(future, value)


def open_app(arguments):
    models = [Model(arguments.bundle, arguments.graph_level).warm() for _ in range(arguments.workers)]
    batcher = Batcher(models, arguments.max_batch)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        tasks = [asyncio.create_task(batcher.run(model)) for model in models]
        yield
        for task in tasks:
            task.cancel()

    async def rewards(texts):
        # The tokenizer runs in a thread, as a long text would delay every other request.
        return await batcher.rewards(await asyncio.to_thread(models[0].read, texts))

    return common.make_app(rewards, lifespan)


if __name__ == "__main__":
    parser = common.parser(__doc__, "sessions, each with a thread of its own")
    parser.add_argument("--max-batch", type=int, default=32, metavar="N", help="texts; default: 32")
    common.serve(open_app, parser.parse_args(), n_processes=1)
