# Two commands matter: `make demo` and `make test`. Both do all set-up first; running it again costs a second.
.PHONY: setup demo test quick check deny bench browser-test slurm-test fuzz

setup:
	@scripts/setup.sh

demo: setup
	cargo build --release --quiet
	target/release/camtrast demo

test: setup
	cargo test --workspace

# Small suites that must come out as recipes/quick/ says.
quick: setup
	@scripts/quick.sh

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@scripts/deny.sh

# Licences, bans, sources and advisories of all dependencies, against deny.toml.
deny: setup
	@scripts/deny.sh

# The report in headless Chromium, which is installed if need be (300 MB).
browser-test:
	@scripts/setup.sh chromium
	python3 tests/browser/run.py

# Suites as jobs of a real Slurm on this machine, which is installed if need be (as root; not part of `make test`).
slurm-test: setup
	@scripts/setup.sh slurm-wlm munge
	cargo build --release --quiet
	python3 tests/slurm/run.py

# Damaged and odd inputs for the executable: `make fuzz SECONDS=3600 SEED=7`. Failures stay in target/fuzz/failures/.
SECONDS ?= 900
fuzz: setup
	cargo build --release --quiet
	python3 tests/fuzz/run.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: setup
	cargo bench --workspace
