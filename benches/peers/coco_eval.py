"""pycocotools on the 5,000 synthetic images of our evaluation bench, in turns with ours, with the ratio of their medians.

    PYTHONPATH= python benches/peers/coco_eval.py [--rounds 5]         (pip install pycocotools)

Theirs is evaluate, accumulate and summarize on loaded annotations ("boxes"), and the same after reading and loading the
results ("json"); the ground truth is loaded before either. Ours computes the VOC and detectron2 figures as well. Stops with an
error when a figure of ours is off by more than 1e-6.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import subprocess
import time
from pathlib import Path
from statistics import median

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FILES = TARGET / "tmp" / "evaluation"


def bench(*arguments, **environment):
    command = "cargo bench --quiet -p camtrast-detection --bench evaluation --".split()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, *arguments], check=True, cwd=ROOT, env=os.environ | environment, **quiet)


def our_seconds(name, **environment):
    bench(name, **environment)
    sample = json.loads((TARGET / "criterion" / "evaluation" / name / "new" / "sample.json").read_text())
    return [nanoseconds / 1e9 / count for nanoseconds, count in zip(sample["times"], sample["iters"])]


def their_seconds(truth):
    """Seconds of the evaluation, with and without reading, and the six figures."""
    with contextlib.redirect_stdout(io.StringIO()):
        begun = time.perf_counter()
        results = truth.loadRes(str(FILES / "results.json"))
        loaded = time.perf_counter()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        done = time.perf_counter()
    return done - loaded, done - begun, evaluation.stats[:6]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of ours and theirs")
    rounds = parser.parse_args().rounds

    FILES.mkdir(parents=True, exist_ok=True)
    bench("--test", CAMTRAST_BENCH_FILES=str(FILES))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(FILES / "instances.json"))
    ours = {(name, threads): [] for name in ("boxes", "json") for threads in ("default", "1")}
    theirs = {"boxes": [], "json": []}
    for _ in range(rounds):
        for (name, threads), times in ours.items():
            times += our_seconds(name, **({} if threads == "default" else {"RAYON_NUM_THREADS": threads}))
        boxes, whole, stats = their_seconds(truth)
        theirs["boxes"].append(boxes)
        theirs["json"].append(whole)

    detections = len(json.loads((FILES / "results.json").read_text()))
    print(f"pycocotools {importlib.metadata.version('pycocotools')}, {os.cpu_count()} cores, {len(truth.imgs)} images,", end=" ")
    print(f"{len(truth.anns)} objects, {detections} detections, {rounds} rounds")
    for (name, threads), times in ours.items():
        print(
            f"{name}: ours, threads {threads}: {1e3 * median(times):.0f} ms (from {1e3 * min(times):.0f}); pycocotools "
            f"{median(theirs[name]):.2f} s (from {min(theirs[name]):.2f}): {median(theirs[name]) / median(times):.0f} x ours"
        )
    figures = json.loads((FILES / "ours.json").read_text())
    names = [f"detection/{name}" for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    worst = max(abs(figures[name] - truth) for name, truth in zip(names, stats))
    print(f"AP {figures['detection/AP']:.6f}, AP50 {figures['detection/AP50']:.6f}; largest difference of six figures {worst:.1e}")
    raise SystemExit(int(worst > 1e-6))


if __name__ == "__main__":
    main()
