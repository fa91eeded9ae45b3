"""The table of training speed: `camtrast pretrain` beside `peers/train.py`, in turns, the second epoch with data included.

    python benches/training.py --data train.safetensors [--threads 1] [--rounds 5] [--images 256] [--rows moco,resnet50] [--device cuda]

Medians over the rounds, images per second; PyTorch's default is fp32 in its plain layout, its best the fastest of all its settings
measured (plain or channels-last, fp32 or bf16, 0 or 1 loading process). On a quiet machine only: the numbers of a busy one mean nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = [(method, arch) for arch in ["resnet18", "resnet50"] for method in ["supervised", "moco", "simsiam"]]


def ours(args, method, arch, precision):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            args.camtrast, "pretrain", "--method", method, "--data", args.data, "--arch", arch, "--epochs", "2", "--device", args.device,
            "--batch-size", args.batch_size, "--total-images", args.images, "--threads", args.threads, "--precision", precision,
            "--save-every", "1000", "--quiet", "--out", out,
        ]
        subprocess.run(list(map(str, command)), check=True)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    first, second = [line["seconds"] for line in lines if line["kind"] == "epoch"]
    return args.images // args.batch_size * args.batch_size / (second - first)


def peer(args, method, arch, precision, layout, workers):
    command = [
        sys.executable, HERE / "peers" / "train.py", "--method", method, "--data", args.data, "--arch", arch, "--precision", precision,
        "--batch-size", args.batch_size, "--images", args.images, "--threads", args.threads, "--layout", layout, "--workers", workers,
        "--device", args.device,
    ]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--camtrast", default=HERE.parent / "target" / "release" / "camtrast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", default="fp32,bf16", help="fp32 only, where the processor has no bfloat16")
    parser.add_argument("--rows", default="", help="only rows with these methods or networks")
    args = parser.parse_args()
    precisions = args.precisions.split(",")
    wanted = [word for word in args.rows.split(",") if word]
    print("| network | method | precision | camtrast | PyTorch's default | its best | ratio to default | to best |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for method, arch in ROWS:
        if any(word not in (method, arch) for word in wanted):
            continue
        settings = [(p, layout, workers) for p in precisions for layout in ["contiguous", "channels-last"] for workers in [0, 1]]
        rates = {}
        for round in range(args.rounds):
            for precision in precisions:
                rates.setdefault(precision, []).append(ours(args, method, arch, precision))
            for setting in settings:
                rates.setdefault(setting, []).append(peer(args, method, arch, *setting))
            # After the first round only the default and the fastest of each precision.
            if round == 0:
                best = {p: max((s for s in settings if s[0] == p), key=lambda s: rates[s][0]) for p in precisions}
                settings = [("fp32", "contiguous", 0), *(s for s in best.values() if s != ("fp32", "contiguous", 0))]
        median = {key: statistics.median(values) for key, values in rates.items()}
        default = median[("fp32", "contiguous", 0)]
        for precision in precisions:
            own, other = median[precision], median[best[precision]]
            print(f"| {arch} | {method} | {precision} | {own:.1f} | {default:.1f} | {other:.1f} ({', '.join(map(str, best[precision][1:]))}) "
                  f"| {own / default:.2f} | {own / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
