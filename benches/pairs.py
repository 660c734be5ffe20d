#!/usr/bin/env python3
"""Makes N preference pairs of 50 choices a person from the texts of hh-rlhf, to see what a fit costs as pairs grow.

usage: benches/pairs.py DATA N OUT

Everybody prefers the response with more of one of 8 letters: 8 tastes that nothing names.
"""
import gzip
import json
import pathlib
import random
import sys

data, n, out = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
with gzip.open(data / "hh-rlhf.jsonl.gz", "rt") as lines:
    rows = [json.loads(line) for line in lines]
texts = sorted({row[side] for row in rows for side in ("chosen", "rejected")})
draw = random.Random(0)
with open(out, "w") as file:
    for i in range(n):
        user = i // 50
        letter = "aeioutns"[user % 8]
        a, b = draw.sample(texts, 2)
        share = [text.count(letter) / len(text) if text else 0.0 for text in (a, b)]
        chosen, rejected = (a, b) if share[0] > share[1] else (b, a)
        print(json.dumps({"user": f"u{user}", "prompt": rows[i % len(rows)]["prompt"], "chosen": chosen, "rejected": rejected}), file=file)
