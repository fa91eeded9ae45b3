# Two commands matter: `make demo` and `make test`. Both do all set-up first; running it again costs a second.
.PHONY: setup demo test quick check bench

setup:
	@scripts/setup.sh

demo: setup
	cargo run --release --quiet -- demo

test: setup
	cargo test --workspace

# Small suites that must come out as recipes/quick/ says.
quick: setup
	@scripts/quick.sh

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench: setup
	cargo bench --workspace
