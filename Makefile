# Two commands suffice on a fresh machine, `make serve` and `make test`. Both fetch their dependencies first.
.PHONY: setup setup-tests serve test format lint doc deploy-check proto-check fuzz toy fit-default bundle-fp32 bundle-int8

setup:
	@scripts/setup

# Installs the Valkey server that tests start.
setup-tests:
	@scripts/setup --tests

serve: setup
	cargo run --release --locked -- serve

test: setup setup-tests format lint doc deploy-check proto-check
	cargo test --locked

format:
	cargo fmt --check

lint:
	cargo clippy --locked --all-targets -- --deny warnings

doc:
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps

deploy-check:
	deploy/check

# Runs a stock gRPC client against the real binary, and the lint of proto/.
proto-check: setup
	cargo build --locked
	proto/check

# Fuzzes each target for ten minutes; needs a C++ compiler.
fuzz:
	fuzz/run

# Writes the bundle that tests run on.
toy:
	cargo run --locked --example toy

# Fits heads and router of models/default, from a directory with the data that models/default/README.md names.
fit-default: setup
	models/default/fit.sh $(DATA)

# Fetches the encoder of models/fp32, which git does not hold.
bundle-fp32:
	@scripts/setup --fp32

# Builds all of models/default from models/fp32 and the data: the int8 encoder, then heads and router on its
# embeddings.
bundle-int8: setup bundle-fp32
	models/default/quantize.sh target/int8
	ENCODER=target/int8 models/default/fit.sh $(DATA)
