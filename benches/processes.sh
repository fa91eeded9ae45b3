#!/bin/sh
# One process of two threads against two processes of one, in turns: images/s and share of the exchange, supervised
# pretraining; medians of the rounds. Usage: benches/processes.sh CAMTRAST [ARCH [SIZE [BATCH [ROUNDS]]]] (by default
# resnet18, 64 pixels, batches of 64, five rounds)
set -eu
camtrast=$(realpath "$1") arch=${2:-resnet18} size=${3:-64} batch=${4:-64} rounds=${5:-5}
here=$(mktemp -d)
trap 'rm -r "$here"' EXIT
cd "$here"
"$camtrast" data synth --out world --size "$size" --images-per-class $((7 * batch / 50 + 1)) --quiet > /dev/null
"$camtrast" data prepare miniimagenet --from world --out train.pack --size "$size" --split train --quiet > /dev/null
for round in $(seq "$rounds"); do
    for processes in 1 2; do
        "$camtrast" pretrain --method supervised --data train.pack --arch "$arch" --batch-size "$batch" --epochs 1 \
            --total-images $((7 * batch)) --log-every 1 --device cpu --quiet --threads $((2 / processes)) \
            --nproc $processes --overwrite --out "$processes-$round" > /dev/null
    done
done
python3 - "$arch" "$size" "$batch" "$rounds" <<'END'
import json, statistics, sys
arch, size, batch, rounds = sys.argv[1:]
def median(processes, key):
    runs = []
    for round in range(1, int(rounds) + 1):
        lines = [json.loads(line) for line in open(f"{processes}-{round}/log.jsonl")]
        steps = [line for line in lines if line["kind"] == "step"][2:]
        runs.append(statistics.median(line.get(key, 0.0) for line in steps))
    return statistics.median(runs)
one, two = median(1, "images_per_second"), median(2, "images_per_second")
print(f"{arch}, {size} pixels, batches of {batch}: one process of two threads {one:.1f} images/s, two of one {two:.1f} "
      f"({two / one:.2f}), exchange {100 * median(2, 'exchange_share'):.0f} %")
END
