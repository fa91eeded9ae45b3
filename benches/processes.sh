#!/bin/sh
# One process of two threads against two processes of one, in turns: images/s and share of the exchange, supervised
# pretraining at 64 pixels; medians of five rounds. Usage: benches/processes.sh CAMTRAST [ARCH..] (default resnet18
# resnet50)
set -eu
camtrast=$(realpath "$1"); shift
cd "$(mktemp -d)"
"$camtrast" data synth --out world --size 64 --images-per-class 20 --quiet > /dev/null
"$camtrast" data prepare miniimagenet --from world --out train.pack --size 64 --split train --quiet > /dev/null
for arch in ${*:-resnet18 resnet50}; do
    for round in 1 2 3 4 5; do
        for processes in 1 2; do
            "$camtrast" pretrain --method supervised --data train.pack --arch "$arch" --batch-size 64 --epochs 1 \
                --total-images 576 --log-every 2 --device cpu --quiet --threads $((2 / processes)) --nproc $processes \
                --overwrite --out "$arch-$processes-$round" > /dev/null
        done
    done
    python3 - "$arch" <<'END'
import json, statistics, sys
def median(processes, key):
    runs = []
    for round in range(1, 6):
        lines = [json.loads(line) for line in open(f"{sys.argv[1]}-{processes}-{round}/log.jsonl")]
        steps = [line for line in lines if line["kind"] == "step"][1:]
        runs.append(statistics.median(line.get(key, 0.0) for line in steps))
    return statistics.median(runs)
one, two = median(1, "images_per_second"), median(2, "images_per_second")
print(f"{sys.argv[1]}: one process of two threads {one:.1f} images/s, two of one {two:.1f} ({two / one:.2f}), "
      f"exchange {100 * median(2, 'exchange_share'):.0f} %")
END
done
