# `make demo` and `make test` do all the set-up on a fresh machine that has Rust.

.PHONY: demo demo-kafka test bench setup reference clean

CARGO ?= cargo

# The main job on files that come along; `make demo ARGS=--exit` ends after the table.
demo:
	@./tools/setup.sh
	$(CARGO) build --release --locked --bin linkspan
	./target/release/linkspan demo $(ARGS)

# Pattern 4 between two real Kafka clusters, which are fetched, started and stopped.
demo-kafka:
	@./tools/setup.sh kafka
	$(CARGO) build --release --locked --bin linkspan
	@./tools/demo-kafka.sh $(ARGS)

# Everything that CI runs.
test: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --locked

# Speed lives here, never in a test. The first needs Node.js and npm for the queue that it measures beside ours; it says so where they
# are missing.
bench: setup
	$(CARGO) bench --locked -p linkspan --bench store
	$(CARGO) bench --locked -p linkspan --bench deliveries
	$(CARGO) bench --locked -p linkspan --bench receivers
	$(CARGO) bench --locked -p linkspan --bench kinesis
	$(CARGO) bench --locked -p linkspan --bench batches
	$(CARGO) bench --locked -p linkspan-streams --bench log
	$(CARGO) bench --locked -p linkspan-streams --bench replicate
	$(CARGO) bench --locked -p linkspan-streams --bench flow

# System packages, for the tests too: says what is missing and why, installs it where it may.
setup:
	@./tools/setup.sh tests

# The generated pages of docs/.
reference:
	$(CARGO) run --locked -q -p linkspan -- reference docs

clean:
	$(CARGO) clean
