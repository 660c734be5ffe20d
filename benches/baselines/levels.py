"""What ONNX Runtime's levels of optimization give: the time of a text at each, by turns, and how far its rewards move.

One session of one thread, one text at a time. The ratio is to basic, which the server uses.
"""
import argparse
import pathlib
import statistics
import time

from model import GRAPH_LEVELS, Model

N_WORDS = [16, 100, 220]
N_ROUNDS = 15

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
root = pathlib.Path(__file__).resolve().parents[2]
parser.add_argument("--bundle", type=pathlib.Path, default=root / "models/default", metavar="DIR")
bundle = parser.parse_args().bundle
models = {level: Model(bundle, level) for level in GRAPH_LEVELS}
words = (root / "ARCHITECTURE.md").read_text().split()
for n_words in N_WORDS:
    [text] = models["basic"].read([" ".join(words[:n_words])])
    rewards = {level: model.rewards([text])[0] for level, model in models.items()}
    times = {level: [] for level in models}
    for _ in range(N_ROUNDS):
        for level, model in models.items():
            start = time.perf_counter()
            model.rewards([text])
            times[level].append(time.perf_counter() - start)
    medians = {level: statistics.median(seconds) for level, seconds in times.items()}
    for level, median in medians.items():
        moved = max(abs(a - b) for a, b in zip(rewards[level], rewards["basic"]))
        speed = medians["basic"] / median
        print(f"{len(text.ids):4} tokens, {level:8}: {1e3 * median:6.2f} ms, {speed:.2f} x as fast, rewards differ by {moved:.1e}")
