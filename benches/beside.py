#!/usr/bin/env python3
"""Two builds of the server by turns: what a change costs. Ratios are of the new one to the old one; above 1 it is
faster.

Of each load it tells answers per second, which the noise of a shared machine moves, and answers per second of the
server's CPU time, which it moves less. Batches have a fixed budget, as the one that a start measures is not the
build's. Needs nothing beside the two binaries and Linux.

    benches/beside.py OLD NEW [--bundles OLD_BUNDLE NEW_BUNDLE] [--rounds N]
"""

import argparse
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = (ROOT / "docs/method.md").read_text(encoding="utf-8").split()


class Server:
    def __init__(self, binary, bundle, directory):
        self.log = pathlib.Path(directory) / "log"
        settings = {key: value for key, value in os.environ.items() if not key.startswith("MICRO_REWARD__")}
        flags = ["--bundle", bundle, "--state", "memory", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        settings["MICRO_REWARD__LOG__FORMAT"] = "json"
        # The budgets that a start measures differ by 10 % from start to start of one build.
        settings["MICRO_REWARD__BATCH__TOKENS"] = "512"
        settings["MICRO_REWARD__STATE__DATA_DIR"] = directory
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen([binary, "serve", *flags], cwd=ROOT, env=settings, stderr=log, stdout=log)
        while not (address := self.address()):
            if self.process.poll() is not None:
                raise SystemExit(f"{binary} ended:\n{self.log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        self.host, self.port = address.rsplit(":", 1)

    def address(self):
        lines = [line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        said = [json.loads(line) for line in lines]
        return next((line["address"] for line in said if line.get("message") == "ready"), None)

    def cpu(self):
        """Seconds of CPU time so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def answers(self, bodies, callers):
        """Answers per second, and per second of CPU, to bodies that so many callers send one after another."""
        shares = [bodies[idx::callers] for idx in range(callers)]
        failed = []

        def call(share):
            connection = http.client.HTTPConnection(self.host, int(self.port), timeout=120)
            for body in share:
                connection.request("POST", "/score", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
                if answer.status != 200:
                    failed.append(said[:300])

        threads = [threading.Thread(target=call, args=[share]) for share in shares]
        before, start = self.cpu(), time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, used = time.monotonic() - start, self.cpu() - before
        if failed:
            raise SystemExit(f"refused: {failed[0]}")
        return len(bodies) / took, len(bodies) / used


def body(responses):
    return json.dumps({"items": [{"prompt": "Tea?", "responses": responses}]}).encode()


def short(idx):
    """A text of about 25 tokens that nobody has sent before."""
    start = idx * 7 % (len(WORDS) - 16)
    return f"{idx} {' '.join(WORDS[start:start + 16])}"


def loads(turn):
    """Of one turn: name, bodies, callers. What is known by then comes after what is new."""
    many = [f"word {idx} of turn {turn}" for idx in range(10_000)]
    return [
        ("a known text, 8 callers", [body(["Seven minutes in boiling water."])] * 10_000, 8),
        ("a new short text, 32 callers", [body([short(turn * 2000 + idx)]) for idx in range(2000)], 32),
        ("10,000 new responses", [body(many)], 1),
        ("10,000 known responses", [body(many)] * 40, 1),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--bundles", nargs=2, default=["models/default"] * 2, metavar=("OLD_BUNDLE", "NEW_BUNDLE"))
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        old, new = [
            Server(str(pathlib.Path(binary).resolve()), str(pathlib.Path(ROOT, bundle)), directory)
            for binary, bundle, directory in zip([args.old, args.new], args.bundles, [first, second])
        ]
        ratios = {}
        for turn in range(args.rounds):
            for name, bodies, callers in loads(turn):
                # The second server finds another state of the machine, so that the servers also take turns in being
                # first.
                order = [old, new] if turn % 2 == 0 else [new, old]
                found = {server: server.answers(bodies, callers) for server in order}
                for kind, idx in [("a second", 0), ("a second of CPU", 1)]:
                    ratios.setdefault((name, kind), []).append((found[old][idx], found[new][idx]))
        for (name, kind), pairs in ratios.items():
            ratio = [new / old for old, new in pairs]
            error = statistics.stdev(ratio) / len(ratio) ** 0.5 if len(ratio) > 1 else float("nan")
            medians = [statistics.median(side) for side in zip(*pairs)]
            print(f"{name:30} {kind:16} {medians[0]:10.2f} {medians[1]:10.2f}  {statistics.mean(ratio):.3f} ({error:.3f})")
        for server in [old, new]:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
