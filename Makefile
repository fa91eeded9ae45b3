# Two commands matter: `make demo` and `make test`. Both do all set-up first; running it again costs a second.
.PHONY: setup demo test check bench

setup:
	@scripts/setup.sh

demo: setup
	cargo run --release --quiet -- demo

test: setup
	cargo test --workspace

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench: setup
	cargo bench --workspace
