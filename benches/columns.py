#!/usr/bin/env python3
"""What style and lexical columns give to the ledger, beside response and length alone: paired differences over people.

usage: benches/columns.py DATA OUT

One bundle for each set and list of columns, on the encoder of models/default, fitted on the train split. The same
people meet the same orders with all of them, on their other choices and on choices between responses without a label.
"""
import pathlib
import subprocess

from int8 import data, mean, number, out, replay, standard_error

FITS = {
    "hh-rlhf": ["--k", "2", "--ridge", "1000"],
    "crowdrag25": ["--k", "4", "--ridge", "1000", "--deviation-ridge", "300"],
    "polis-bowling-green": ["--k", "4", "--ridge", "300", "--deviation-ridge", "300"],
    "ukpconvarg1": ["--k", "1", "--ridge", "30000"],
}
COLUMNS = ["response,length", "response,length,style", "response,length,lexical", "response,length,style,lexical"]
AFTER = [0, 5, 10, 40]


def fit(name, columns):
    bundle = f"{name}-{columns.replace(',', '-')}"
    votes = "" if name == "hh-rlhf" else ".votes"
    command = ["target/release/micro-reward", "fit", "--encoder", "models/default", "--data", data / f"{name}{votes}.jsonl.gz",
               "--features", columns, "--out", out / bundle, "--cache", out / "embeddings", *FITS[name]]
    if votes:
        command += ["--responses", data / f"{name}.responses.jsonl.gz"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return bundle


print("| set | choices | columns | " + " | ".join(f"{n} labels" for n in AFTER) + " |")
print("| --- | --- | --- |" + " --- |" * len(AFTER))
for name in FITS:
    bundles = [(columns, fit(name, columns)) for columns in COLUMNS]
    for choices, flags in [("other", []), ("disjoint", ["--disjoint", "0.5"])]:
        base = None
        for columns, bundle in bundles:
            points, _ = replay(bundle, name, "--seeds", "5", *flags, directory=pathlib.Path(out))
            base = base or points
            cells = []
            for n in AFTER:
                if n not in points or len(points[n][1]) < 20:
                    cells.append("")
                    continue
                estimate, people = points[n]
                if points is base:
                    cells.append(f"{number(estimate['mean'])} ({number(estimate['standard_error'])})")
                    continue
                before = base[n][1]
                differences = [people[person] - accuracy for person, accuracy in before.items()]
                cells.append(f"{number(mean(differences), '+')} ({number(standard_error(differences))})")
            print(f"| {name} | {choices} | {columns} | {' | '.join(cells)} |", flush=True)
