#!/bin/sh
# The few-shot probe and scikit-learn on the same features and episodes, in turns, with the ratio of their medians.
# Needs a Python with numpy, scikit-learn and safetensors: `PYTHON=... benches/peers/fewshot.sh [--shots 1] [--rounds 5]`.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
files=$target/tmp/fewshot
mkdir -p "$files"
CAMTRAST_BENCH_FILES=$files cargo bench --quiet -p camtrast-fewshot --bench solver -- --test
exec "${PYTHON:-python3}" benches/peers/fewshot_sklearn.py --files "$files" --criterion "$target/criterion" "$@"
