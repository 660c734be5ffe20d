#!/bin/sh
# Makes heads.onnx, router.onnx, questions.jsonl and bundle.toml of OUT, on the encoder of the bundle in ENCODER. DATA holds
# the files named below.
set -eu
cd "$(dirname "$0")/../.."
DATA=${1:?usage: [ENCODER=DIR] [OUT=DIR] [SEED=N] models/default/fit.sh DATA [--html FILE]}
shift
# One number for each file: heads, ridge, and the ridge of deviations from the file's single head (0: from nothing).
exec cargo run --release --quiet -- fit --encoder "${ENCODER:-models/default}" --out "${OUT:-models/default}" --seed "${SEED:-0}" \
    --k 2,4,1,4 --ridge 1000,1000,30000,300 --deviation-ridge 0,300,0,300 \
    --features response,length,style,lexical --questions 32 --candidates models/default/candidates.jsonl \
    --data "$DATA/hh-rlhf.jsonl.gz" "$DATA/crowdrag25.votes.jsonl.gz" \
    "$DATA/ukpconvarg1.votes.jsonl.gz" "$DATA/polis-bowling-green.votes.jsonl.gz" \
    --responses "$DATA/crowdrag25.responses.jsonl.gz" "$DATA/ukpconvarg1.responses.jsonl.gz" \
    "$DATA/polis-bowling-green.responses.jsonl.gz" "$@"
