#!/usr/bin/env python3
"""Makes what shows the worth of a questionnaire: candidates for questions, and people who can be asked any of them.

usage: benches/newcomers.py DATA OUT

DATA holds polis-bowling-green.*. People there agreed with some statements and disagreed with others, so that their
choice between any one of each is known. Candidates are all pairs of the 40 statements on which most train people
voted. A test person's choices keep only those that touch none of these statements, with the group "untouched": what
is to be looked at is the ledger's curve of this group, so that no answer gives away what is measured. Added, without
a group, are the answers to all candidates that are known of the person. Train rows stay as they are.
"""
import collections
import gzip
import itertools
import json
import pathlib
import sys

N_STATEMENTS = 40
data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
name = "polis-bowling-green"
with gzip.open(data / f"{name}.votes.jsonl.gz", "rt") as lines:
    rows = [json.loads(line) for line in lines]

votes = collections.Counter(
    id for row in rows if row["split"] == "train" for id in (row["chosen_id"], row["rejected_id"])
)
asked = [id for id, _ in votes.most_common(N_STATEMENTS)]
prompt = rows[0]["prompt"]
pairs = list(itertools.combinations(asked, 2))
with open(out / f"{name}.candidates.jsonl", "w") as file:
    for a, b in pairs:
        print(json.dumps({"prompt": prompt, "chosen_id": a, "rejected_id": b}), file=file)

agreed, disagreed = collections.defaultdict(set), collections.defaultdict(set)
kept, people = [], {}
for row in rows:
    if row["split"] == "train":
        kept.append({**row, "group": None})
        continue
    people[row["user"]] = row
    agreed[row["user"]].add(row["chosen_id"])
    disagreed[row["user"]].add(row["rejected_id"])
    if row["chosen_id"] not in asked and row["rejected_id"] not in asked:
        kept.append({**row, "group": "untouched"})
for user, row in people.items():
    for a, b in pairs:
        for x, y in ((a, b), (b, a)):
            if x in agreed[user] and y in disagreed[user]:
                kept.append({**row, "chosen_id": x, "rejected_id": y, "group": None})
with gzip.open(out / f"{name}.votes.jsonl.gz", "wt") as file:
    for row in kept:
        print(json.dumps(row), file=file)
print(f"{len(pairs)} candidates, {len(people)} test people, {len(kept)} rows in {out}")
