#!/usr/bin/env bash
# Draws a small world and runs the suites of recipes/quick/ on it, which fail when a number is not what the recipe expects.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
camtrast=$PWD/target/release/camtrast
mkdir -p target/quick-run && cd target/quick-run
if [ ! -f quick/test.safetensors ]; then
  rm -rf quick
  "$camtrast" data synth --out quick/world --size 48 --images-per-class 24 --evaluation-images-per-class 30 --scenes 120 --test-scenes 60 \
    --scene-size 96 --streets 48 --val-streets 20 --street-size 64
  "$camtrast" data prepare miniimagenet --from quick/world --split train --size 48 --out quick/train.safetensors
  "$camtrast" data prepare miniimagenet --from quick/world --split test --size 48 --out quick/test.safetensors
fi
for recipe in ../../recipes/quick/*.toml; do
  "$camtrast" suite run "$recipe" --out "runs/$(basename "$recipe" .toml)" --device cpu
done
