#!/usr/bin/env python3
"""What models/default loses against models/fp32, which was fitted alike on the encoder before it was quantized: two
tables.

usage: benches/int8.py DATA OUT

The first is of the reports of the two fits: test pairs, with the standard error of fp32, which takes them as
independent. The second is of replays: the ledger on each person's other choices. The same people meet the same orders
with both, so the standard error of the difference can be taken over people, paired. Under each are the rows that
differ by more.
"""
import gzip
import json
import math
import pathlib
import subprocess
import sys
import tomllib

SETS = ["hh-rlhf", "crowdrag25", "polis-bowling-green", "ukpconvarg1"]
AFTER = [0, 5, 10, 20, 40]
BUNDLES = ["fp32", "default"]
data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)


def number(x, sign=""):
    return f"{x:{sign}.3f}".replace("0.", ".", 1)


def mean(values):
    return sum(values) / len(values)


def standard_error(values):
    center = mean(values)
    return math.sqrt(sum((x - center) ** 2 for x in values) / (len(values) - 1) / len(values))


def say_what_is_outside(rows, by):
    print(f"\nBy more than one standard error{by}: {', '.join(rows) or 'none'}.\n")


def reports():
    manifests = [tomllib.loads(pathlib.Path(f"models/{bundle}/bundle.toml").read_text()) for bundle in BUNDLES]
    slices = [{row["slice"]: row for row in manifest["report"]["test"]} for manifest in manifests]
    print("| test slice | n | length | | fp32 | int8 | difference | se |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    outside = []
    for name, before in slices[0].items():
        after = slices[1][name]
        start = f"| {name} | {before['n']} | {number(before['length'])} "
        for key in ["single", "routed", "best_head"]:
            # Reports have four digits, so that the share is rounded back to a number of pairs.
            p, q = (round(row[key] * row["n"]) / row["n"] for row in (before, after))
            se = math.sqrt(p * (1 - p) / before["n"])
            label = key.replace("_", " ")
            print(f"{start}| {label} | {number(p)} | {number(q)} | {number(q - p, '+')} | {number(se)} |")
            start = "| | | "
            if abs(q - p) > se:
                outside.append(f"{label} of {name}")
    say_what_is_outside(outside, "")


def replay(bundle, name, *flags, directory=pathlib.Path("models")):
    """By number of labels, the mean of everybody, its standard error, and the accuracy of each person."""
    votes = "" if name == "hh-rlhf" else ".votes"
    rows = out / f"{name}.jsonl"
    with gzip.open(data / f"{name}{votes}.jsonl.gz", "rt") as lines, open(rows, "w") as file:
        for row in map(json.loads, lines):
            # Each user is a group, so that the replay has a curve of each. The user's id itself can't be the group
            # too.
            if row["split"] == "test":
                row["person"] = f"person {row['user']}"
            print(json.dumps(row), file=file)
    figures = out / f"{bundle}-{name}{'-'.join(flags)}.json"
    command = ["target/release/micro-reward", "replay", "--bundle", directory / bundle, "--data", rows, "--group-field", "person",
               "--after", ",".join(map(str, AFTER)), "--json", figures, "--cache", out / "embeddings", *flags]
    if votes:
        command += ["--responses", data / f"{name}.responses.jsonl.gz"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(figures.read_text())
    curves = [curve for curve in figures["curves"] if curve["rule"] == "Bayes ledger"]
    length = next(curve for curve in figures["curves"] if curve["rule"] == "length only")
    points = {point["n"]: (point["accuracy"], {}) for curve in curves if curve["group"] is None for point in curve["points"]}
    for curve in curves:
        for point in curve["points"] if curve["group"] is not None else []:
            points[point["n"]][1][figures["groups"][curve["group"]]] = point["accuracy"]["mean"]
    return points, {point["n"]: point["accuracy"]["mean"] for point in length["points"]}


def replays():
    print("| set | labels | people | length | fp32 | int8 | difference | paired se |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    outside, outside_paired = [], []
    for name in SETS:
        (before, length), (after, _) = [replay(bundle, name) for bundle in BUNDLES]
        label = f" {name}"
        for n, (estimate, people) in before.items():
            now, same_people = after[n]
            differences = [same_people[person] - accuracy for person, accuracy in people.items()]
            assert people.keys() == same_people.keys() and abs(mean(differences) - now["mean"] + estimate["mean"]) < 1e-6
            both = [f"{number(e['mean'])} ({number(e['standard_error'])})" for e in (estimate, now)]
            difference, se = mean(differences), standard_error(differences)
            cells = [str(n), str(len(people)), number(length[n]), *both, number(difference, "+"), number(se)]
            print(f"|{label} | {' | '.join(cells)} |")
            label = ""
            row = f"{name} at {n} ({difference:+.4f})"
            if abs(difference) > estimate["standard_error"]:
                outside.append(row)
            if abs(difference) > se:
                outside_paired.append(row)
    say_what_is_outside(outside, " of fp32")
    say_what_is_outside(outside_paired, ", paired")


if __name__ == "__main__":
    reports()
    replays()
