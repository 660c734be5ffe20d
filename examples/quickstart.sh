#!/bin/sh
# Two users of opposite taste against a running server: `make serve` in another terminal, then this.
# Ann prefers an answer that goes ahead, Ben one that is careful; the pairs are in examples/quickstart.jsonl. The server knows them as
# quickstart-ann and quickstart-ben, and what these two said before is erased first.
# usage: examples/quickstart.sh [SERVER]     ends with 1 where a call is refused
set -eu
cd "$(dirname "$0")"
server=${1:-http://127.0.0.1:8080}
run=$(date +%s)

post() { curl -sS --fail-with-body -H 'Content-Type: application/json' "$server$1" -d "$2"; }

# field of stdin's JSON, numbers rounded
show() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]:
    value = value[int(key) if key.isdigit() else key]
print(json.dumps([round(x, 3) for x in value]) if isinstance(value, list) else value)' "$@"; }

# The three heads that count most among stdin's weights: heads MODELS
heads() { python3 -c 'import json, sys
names = [head["name"] for head in json.loads(sys.argv[1])["heads"]]
most = sorted(zip(json.load(sys.stdin)["weights"], names), reverse=True)[:3]
print(", ".join(f"{name} {weight:.3f}" for weight, name in most))' "$@"; }

# 20 events of one user as lines: events USER PREFERRED OTHER
events() { python3 -c 'import json, sys
user, preferred, other, run = sys.argv[1:]
for idx, line in enumerate(open("quickstart.jsonl", encoding="utf-8")):
    pair = json.loads(line)
    print(json.dumps({"event_id": f"{user}-{run}-{idx}", "user": f"quickstart-{user}", "kind": "pair", "prompt": pair["prompt"],
                      "chosen": pair[preferred], "rejected": pair[other]}))' "$@" "$run"; }

# Sends them and prints the last ack: feedback USER PREFERRED OTHER
feedback() {
    acks=$(events "$@" | curl -sS --fail-with-body -H 'Content-Type: application/x-ndjson' "$server/feedback" --data-binary @-)
    printf '%s\n' "$acks" | tail -n 1
    [ "$(printf '%s\n' "$acks" | grep -c '"applied"')" = 20 ] || { echo "not all 20 feedbacks were applied" >&2 && exit 1; }
}

ask() { cat <<JSON
{"user": "quickstart-$1", "items": [{"prompt": "How do I change a flat tyre?", "responses": [
  {"id": "bold", "text": "Loosen the nuts a quarter turn while the wheel is on the ground, jack the car up at the marked point, take the nuts off, swap the wheel, tighten the nuts in a star pattern, lower the car and tighten them fully. Check the pressure of the spare and drive slowly to a garage."},
  {"id": "careful", "text": "Oh no, that sounds dangerous! I'm sorry. Please don't do it by yourself, call somebody."}]}]}
JSON
}

for user in ann ben; do
    curl -sS --fail-with-body -X DELETE "$server/users/quickstart-$user" >/dev/null
    scored=$(post /score "$(ask $user)")
    echo "$user, unknown: rewards of [bold, careful] $(echo "$scored" | show items 0 rewards)"
done

echo "20 feedbacks each"
feedback ann bold careful
feedback ben careful bold

models=$(curl -sS --fail-with-body "$server/models")
for user in ann ben; do
    known=$(curl -sS --fail-with-body "$server/users/quickstart-$user")
    scored=$(post /score "$(ask $user)")
    ranked=$(post /rank "$(ask $user)")
    echo "$user, known: heads $(echo "$known" | heads "$models")"
    echo "$user, known: rewards of [bold, careful] $(echo "$scored" | show items 0 rewards)"
    echo "$user, known: order $(echo "$ranked" | show items 0 order), P(best) $(echo "$ranked" | show items 0 best)"
done
