# Two commands on a fresh machine: `make serve`, `make test`. Both fetch what they need first.
.PHONY: setup setup-tests serve test format lint doc deploy-check proto-check fuzz toy fit-default bundle-fp32 bundle-int8

setup:
	@scripts/setup

# The server that tests start.
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

# A stock gRPC client against the real binary, and the lint of proto/.
proto-check: setup
	cargo build --locked
	proto/check

# Ten minutes for each target; needs a C++ compiler.
fuzz:
	fuzz/run

# The bundle that tests run on.
toy:
	cargo run --locked --example toy

# Heads and router of models/default, from a directory with the data that models/default/README.md names.
fit-default: setup
	models/default/fit.sh $(DATA)

# The encoder of models/fp32, which git does not hold.
bundle-fp32:
	@scripts/setup --fp32

# All of models/default out of models/fp32 and the data: the int8 encoder, then heads and router on its embeddings.
bundle-int8: setup bundle-fp32
	models/default/quantize.sh target/int8
	ENCODER=target/int8 models/default/fit.sh $(DATA)
