"""Rewards over HTTP without batching: worker processes with one session each, which encode one text at a time.

Nor are the texts of a request batched: on a CPU, padding them to one length costs more than it gains.
"""
import asyncio
from concurrent.futures import ThreadPoolExecutor

import common
from model import Model


def open_app(arguments):
    model = Model(arguments.bundle, arguments.graph_level).warm()
    # More threads than sessions would compete for the worker's core.
    thread = ThreadPoolExecutor(1)

    def rewards(texts):
        return [model.rewards([text])[0] for text in model.read(texts)]

    async def in_thread(texts):
        return await asyncio.get_running_loop().run_in_executor(thread, rewards, texts)

    return common.make_app(in_thread)


if __name__ == "__main__":
    arguments = common.parser(__doc__, "processes").parse_args()
    common.serve(open_app, arguments, arguments.workers)
