#!/bin/sh
# One process of two threads against two processes of one: images/s and share of the exchange, supervised pretraining
# at 64 pixels. Usage: benches/processes.sh CAMTRAST [ARCH..] (default resnet18 resnet50)
set -eu
camtrast=$(realpath "$1"); shift
cd "$(mktemp -d)"
"$camtrast" data synth --out world --size 64 --images-per-class 20 --quiet > /dev/null
"$camtrast" data prepare miniimagenet --from world --out train.pack --size 64 --split train --quiet > /dev/null
for arch in ${*:-resnet18 resnet50}; do
    for flags in "--threads 2" "--threads 1 --nproc 2"; do
        rm -rf run
        "$camtrast" pretrain --method supervised --data train.pack --arch "$arch" --batch-size 64 --epochs 1 \
            --total-images 960 --log-every 5 --device cpu --quiet $flags --out run > /dev/null
        python3 - "$arch $flags" <<'END'
import json, statistics, sys
lines = [json.loads(line) for line in open("run/log.jsonl")]
steps = [line for line in lines if line["kind"] == "step"][1:]
rate = statistics.median(line["images_per_second"] for line in steps)
share = statistics.median(line.get("exchange_share", 0.0) for line in steps)
print(f"{sys.argv[1]}: {rate:.1f} images/s, exchange {100 * share:.1f} %")
END
    done
done
