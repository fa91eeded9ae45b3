# Two commands matter: `make demo` and `make test`. Both do all set-up first; running it again costs a second.
.PHONY: setup demo test install wheel python-test container-test docs quick check deny bench browser-test slurm-test hosts-test fuzz

setup:
	@scripts/setup.sh

demo: setup
	cargo build --release --quiet
	target/release/camtrast demo

test: setup
	cargo test --workspace

# Programs, libtorch, completions and man pages: `make install PREFIX=$HOME/.local`. LINK=1 links libtorch, DESTDIR= is obeyed.
PREFIX ?= /usr/local
install: setup
	cargo build --release --quiet
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" LINK="$(LINK)" scripts/install.sh

# dist/camtrast-*.whl, for environments with torch 2.11.
wheel: setup
	cargo build --release --quiet
	@scripts/wheel.sh

# The wheel in a fresh environment with torch (3 GB from PyPI, or an environment that is there: TORCH_FROM=/path/to/venv).
python-test: wheel
	@TORCH_FROM="$(TORCH_FROM)" MLFLOW="$(MLFLOW)" scripts/python-test.sh

# The instructions of Containerfile in clean Debian roots, where there is no builder (as root; half an hour, 8 GB).
container-test:
	@command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap
	python3 tests/container/run.py

# The documentation as a site, target/book/index.html, with the reference of all commands; links are checked.
docs: setup
	cargo build --release --quiet
	@scripts/docs.sh

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

# Training by two hosts, one of them cut off, by torchrun, and with processes killed at random (as root; not part of
# `make test`). TORCHRUN=.. names a torchrun that is not in the path.
hosts-test: setup
	@scripts/setup.sh iproute2
	cargo build --release --quiet
	python3 tests/hosts/run.py $(if $(TORCHRUN),--torchrun $(TORCHRUN))

# Damaged and odd inputs for the executable: `make fuzz SECONDS=3600 SEED=7`. Failures stay in target/fuzz/failures/.
SECONDS ?= 900
fuzz: setup
	cargo build --release --quiet
	python3 tests/fuzz/run.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: setup
	cargo bench --workspace
