"""torchvision's CPU kernels for RoIAlign and suppression beside ours, in turns, with the ratio of the medians.

    PYTHONPATH= python benches/peers/detection_operators.py [--rounds 3] [--threads 1] [--image photo.jpg]     (pip install torch torchvision)

RoIAlign: 512 regions of 14 x 14 bins on 1024 channels of 50 x 50, adaptive sampling, forward and backward. NMS: 2,000 boxes at .7.
Same boxes on both sides (the filler of tests/golden/_fill.py).
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
import torchvision
from torchvision.ops import nms, roi_align

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import _fill  # noqa: E402


def boxes(name, count, side):
    a, b, c, d = _fill.unit(name, count, 4).unbind(1)
    w, h = c * c * (side - 16) + 16, d * d * (side - 16) + 16
    x, y = a * (side - w), b * (side - h)
    return torch.stack([x, y, x + w, y + h], 1)


def ours(threads, image):
    command = "cargo bench --quiet -p camtrast-detection --bench operators".split()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    if image:
        environment["CAMTRAST_BENCH_IMAGES"] = str(Path(image).resolve())
    lines = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in (line.split() for line in lines.splitlines() if line.strip())}


def timed(once):
    once()
    seconds = []
    for _ in range(7):
        begun = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def theirs():
    proposals, scores = boxes("nms", 2000, 800.0), _fill.unit("scores", 2000)
    regions = torch.cat([torch.zeros(512, 1), boxes("regions", 512, 800.0)], 1)
    features = _fill.fill("features", 1, 1024, 50, 50).requires_grad_()
    seconds = {"nms": timed(lambda: nms(proposals, scores, 0.7))}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds["roi_align"] = timed(lambda: roi_align(features, regions, 14, 1 / 16, 0, True).sum().backward())
    seconds["roi_align_bytes"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of ours and theirs")
    parser.add_argument("--threads", type=int, default=1, help="threads on either side")
    parser.add_argument("--image", help="a photo, to time the data path with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    all_ours, all_theirs = [], []
    for _ in range(arguments.rounds):
        all_ours.append(ours(arguments.threads, arguments.image))
        all_theirs.append(theirs())
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {os.cpu_count()} cores, {arguments.threads} threads, {arguments.rounds} rounds")
    for name in ("nms", "roi_align"):
        a, b = (median(round[name] for round in rounds) for rounds in (all_ours, all_theirs))
        print(f"{name}: ours {1e3 * a:.2f} ms, torchvision {1e3 * b:.2f} ms: theirs / ours {b / a:.2f}")
    # The first round's: a process keeps its peak.
    a, b = all_ours[0]["roi_align_bytes"], all_theirs[0]["roi_align_bytes"]
    print(f"roi_align, memory above the inputs: ours {a / 2**20:.0f} MiB, torchvision {b / 2**20:.0f} MiB")
    if arguments.image:
        print(f"data path: {median(round['data_images_per_second'] for round in all_ours):.1f} images/s at short side 800")


if __name__ == "__main__":
    main()
