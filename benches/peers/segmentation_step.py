"""mmsegmentation's DeepLab v3+ beside ours, one training step in turns, with the ratio of the medians.

    PYTHONPATH= python benches/peers/segmentation_step.py [--rounds 5] [--threads 1] [--crop 128x256] [--steps 3] [--precisions fp32]
                                                              [--cargo-profile bench]

Packages: tests/golden/_mmseg.py. Its modules, built as `deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024` builds them on one device: ResNetV1c-50, 512 channels,
auxiliary head, 19 classes, dropout .1. A step is forward, both losses (without the accuracy that it logs), backward and SGD (momentum .9, weight decay 5e-4) on two crops. float32
channels-first, as it trains by default, and channels-last; bfloat16 by torch.autocast, channels-last. Seconds are processor time, which other work on the machine disturbs least.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

import _bench
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import _mmseg  # noqa: E402
from mmseg.models.utils import resize  # noqa: E402

LAYOUTS = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
# Which of ours stands beside which of theirs.
PAIRS = [("fp32", "channels-first"), ("fp32", "channels-last"), ("bf16", "channels-last")]


def ours(arguments):
    settings = {
        "CAMTRAST_BENCH_CROP": arguments.crop,
        "CAMTRAST_BENCH_STEPS": str(arguments.steps),
        "CAMTRAST_BENCH_PRECISIONS": arguments.precisions,
    }
    return _bench.run("camtrast-segmentation", arguments.cargo_profile, arguments.threads, settings)


class Theirs:
    def __init__(self, crop, layout):
        height, width = map(int, crop.split("x"))
        parts = _mmseg.deeplab(50, 64, 512, 19, (12, 24, 36), 0.1)
        self.parts = torch.nn.ModuleList(parts).train().to(memory_format=layout)
        self.images = torch.randn(2, 3, height, width).to(memory_format=layout)
        self.labels = torch.randint(19, (2, height, width))
        self.optimizer = torch.optim.SGD(self.parts.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step(self, precision):
        begun = time.process_time()
        backbone, *heads = self.parts
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            maps = backbone(self.images)
            logits = [head(maps) for head in heads]
        loss = sum(
            head.loss_decode(resize(x.float(), self.labels.shape[1:], mode="bilinear", align_corners=False), self.labels, ignore_index=255)
            for head, x in zip(heads, logits)
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        assert loss.isfinite()
        return time.process_time() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of ours and theirs")
    parser.add_argument("--threads", type=int, default=1, help="threads on either side")
    parser.add_argument("--crop", default="128x256", help="height x width of the crops")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn, after one that does not count")
    parser.add_argument("--precisions", default="fp32,bf16", help="fp32 only, where the processor has no bfloat16")
    parser.add_argument("--cargo-profile", default="bench", help="profile that ours is built with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs = [pair for pair in PAIRS if pair[0] in arguments.precisions.split(",")]
    all_ours, all_theirs = [], []
    for turn in range(arguments.rounds):
        all_ours.append(ours(arguments))
        seconds = {}
        for precision, layout in pairs:
            theirs = Theirs(arguments.crop, LAYOUTS[layout])
            seconds[precision, layout] = median([theirs.step(precision) for _ in range(arguments.steps + 1)][1:])
        all_theirs.append(seconds)
        print(f"round {turn + 1}: ours {all_ours[-1]}, mmsegmentation {seconds}", flush=True)
    print(f"torch {torch.__version__}, mmsegmentation {_mmseg.VERSIONS['mmseg']}, {os.cpu_count()} cores, {arguments.threads} threads, crops {arguments.crop}")
    for precision, layout in pairs:
        a, b = median(round[precision] for round in all_ours), median(round[precision, layout] for round in all_theirs)
        print(f"{precision}: ours {a:.2f} s, mmsegmentation {layout} {b:.2f} s: theirs / ours {b / a:.2f}")


if __name__ == "__main__":
    main()
