#!/bin/sh
# MoCo v2 of camtrast and of `moco_twin.py`, on the same images, seed by seed: mean few-shot accuracy of both with 95 % intervals
# over the seeds (Student's t), and of their difference.
# Needs a release build, two packs and a Python with torch, torchvision, safetensors and pillow:
#   PYTHON=... benches/peers/moco.sh TRAIN.safetensors TEST.safetensors OUT [SEEDS [EPOCHS]]
set -eu
train=$1 test=$2 out=$3 seeds=${4:-0 1 2 3 4} epochs=${5:-5}
here=$(dirname "$0")
camtrast=${CAMTRAST:-$here/../../target/release/camtrast}
for seed in $seeds; do
  ours=$out/ours-$seed twin=$out/twin-$seed
  "$camtrast" pretrain --method moco --data "$train" --arch resnet18 --width 16 --classes 16 --total-images 4000 --epochs "$epochs" \
    --batch-size 64 --lr 0.06 --key-momentum 0.99 --precision bf16 --threads 1 --seed "$seed" --quiet --out "$ours"
  "${PYTHON:-python3}" "$here/moco_twin.py" --run "$ours" --data "$train" --out "$twin.safetensors"
  "$camtrast" checkpoint import "$twin.safetensors" --out "$twin/backbone.safetensors"
  for run in "$ours" "$twin"; do
    "$camtrast" fewshot eval --checkpoint "$run/backbone.safetensors" --data "$test" --threads 1 --quiet --out "$run-probe.json"
  done
done
exec "${PYTHON:-python3}" - "$out" $seeds <<'E'
import json, statistics, sys

out, seeds = sys.argv[1], sys.argv[2:]
# Student's t at 95 % by degrees of freedom.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]

def interval(values):
    half = T[len(values) - 2] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):6.2f} ± {half:.2f}"

for task in ["5way1shot", "5way5shot"]:
    ours, twin = (
        [100 * json.load(open(f"{out}/{name}-{seed}-probe.json"))[f"fewshot/{task}/mean"] for seed in seeds]
        for name in ["ours", "twin"]
    )
    difference = interval([a - b for a, b in zip(ours, twin)])
    print(f"{task}: camtrast {interval(ours)}, twin {interval(twin)}, difference {difference}")
E
