#!/bin/sh
# Makes the int8 encoder from the fp32 one and writes it to OUT: quantize.py with its tools in vendor/quantize, pinned by hash.
# Needs python3 (3.11 to 3.14) with venv, and the files of `make bundle-fp32`.
set -eu

die() {
    printf 'quantize: error: %s\n' "$*" >&2
    exit 1
}

cd "$(dirname "$0")/../.."
OUT=${1:?usage: models/default/quantize.sh OUT}
here=models/default
command -v python3 >/dev/null 2>&1 || die "python3 was not found"
python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
    die "python3 is not one of 3.11 to 3.14, which $here/requirements-quantize.txt pins packages for"

export PIP_REQUIRE_VIRTUALENV=false PIP_DISABLE_PIP_VERSION_CHECK=1
[ -n "${HOME-}" ] || export PIP_NO_CACHE_DIR=1
key=$(sha256sum <"$here/requirements-quantize.txt")
key=$(printf %.16s "$key")
tools=vendor/quantize/$key
if [ ! -e "$tools/complete" ]; then
    echo "installing the tools of quantize.py into $tools"
    rm -rf vendor/quantize
    mkdir -p vendor/quantize
    log=vendor/quantize/install.log
    python3 -m venv "$tools" >"$log" 2>&1 ||
        die "python3 -m venv failed (Debian: apt-get install python3-venv); see $log"
    "$tools/bin/python" -m pip install --no-deps --require-hashes --only-binary=:all: --progress-bar off \
        -r "$here/requirements-quantize.txt" >"$log" 2>&1 ||
        die "pip could not install $here/requirements-quantize.txt; see $log"
    : >"$tools/complete"
fi
exec "$tools/bin/python" -B "$here/quantize.py" "$OUT"
