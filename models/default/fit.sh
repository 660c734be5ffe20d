#!/bin/sh
# Makes heads.onnx, router.onnx and bundle.toml of this directory. DATA holds the files named below.
set -eu
cd "$(dirname "$0")/../.."
DATA=${1:?usage: models/default/fit.sh DATA}
exec cargo run --release --quiet -- fit --encoder models/default --out models/default --k 8 --seed 0 \
    --data "$DATA/hh-rlhf.jsonl.gz" "$DATA/crowdrag25.votes.jsonl.gz" \
    "$DATA/ukpconvarg1.votes.jsonl.gz" "$DATA/polis-bowling-green.votes.jsonl.gz" \
    --responses "$DATA/crowdrag25.responses.jsonl.gz" "$DATA/ukpconvarg1.responses.jsonl.gz" \
    "$DATA/polis-bowling-green.responses.jsonl.gz"
