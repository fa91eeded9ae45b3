"""500 masks of 2048 x 1024 pixels scored by cityscapesScripts and by `camtrast segmentation score`: seconds, scores, peak memory.

    pip install cityscapesscripts
    python benches/peers/cityscapes_eval.py --camtrast target/release/camtrast [--images 500] [--theirs 50] [--rounds 3]

cityscapesScripts' time grows with the number of images, so it may score fewer (`--theirs`) and be scaled up; its instance scores, which need
other files, are switched off. Ours runs as a process of its own, start included, in turns with theirs. Peak memory of ours is told for
a tenth of the images and for all.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluation
from PIL import Image

DISTINCT = 10  # further images are links to these


def draw(generator, truth=None):
    """A street of label regions with ragged outlines; a prediction is its truth with outlines shifted and regions mistaken."""
    if truth is None:
        coarse = generator.integers(0, 34, (16, 32)).astype(np.uint8)
        mask = coarse.repeat(64, 0).repeat(64, 1)
        rows = generator.integers(-20, 20, 1024).cumsum() // 8
        return np.stack([np.roll(line, shift) for line, shift in zip(mask, rows)])
    mask = np.roll(truth, generator.integers(-3, 4, 2), (0, 1))
    for _ in range(30):
        y, x = generator.integers(0, 960), generator.integers(0, 1900)
        mask[y : y + 60, x : x + 120] = generator.integers(0, 34)
    return mask


def make(folder, images):
    generator = np.random.default_rng(0)
    pairs = []
    for i in range(images):
        names = [folder / kind / f"ulm_{i:06}_000019_{kind}_labelIds.png" for kind in ("gtFine", "pred")]
        if i < DISTINCT:
            truth = draw(generator)
            for name, mask in zip(names, (truth, draw(generator, truth))):
                name.parent.mkdir(exist_ok=True)
                Image.fromarray(mask).save(name)
        else:
            for name in names:
                name.hardlink_to(name.with_name(name.name.replace(f"{i:06}", f"{i % DISTINCT:06}", 1)))
        pairs.append(names)
    return pairs


def theirs(pairs):
    args = evaluation.args
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    begun = time.perf_counter()
    truths, predictions = zip(*((str(t), str(p)) for t, p in pairs))
    result = evaluation.evaluateImgLists(list(predictions), list(truths), args)
    return time.perf_counter() - begun, result["averageScoreClasses"]


def ours(binary, folder):
    out = folder / "metrics.json"
    arguments = [binary, "segmentation", "score", "--quiet", "--ground-truth", folder / "gtFine", "--predictions", folder / "pred"]
    begun = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(binary, [str(a) for a in [*arguments, "--out", out]], os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return time.perf_counter() - begun, json.loads(out.read_text())["segmentation/mIoU"], usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--camtrast", required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--theirs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as all_of_them, tempfile.TemporaryDirectory() as few:
        pairs = make(Path(all_of_them), args.images)
        make(Path(few), args.images // 10)
        kind = "compiled" if evaluation.CSUPPORT else "Python"
        print(f"{args.images} masks of 2048 x 1024; cityscapesScripts' {kind} path on {args.theirs} of them, scaled up")
        ratios = []
        for _ in range(args.rounds):
            their_seconds, their_score = theirs(pairs[: args.theirs])
            their_seconds *= args.images / args.theirs
            our_seconds, our_score, memory = ours(args.camtrast, Path(all_of_them))
            ratios.append(their_seconds / our_seconds)
            print(f"theirs {their_seconds:.1f} s, ours {our_seconds:.2f} s: {ratios[-1]:.1f} times; peak {memory:.0f} MiB")
        _, few_score, few_memory = ours(args.camtrast, Path(few))
        print(f"median {statistics.median(ratios):.1f} times; peak {few_memory:.0f} MiB for a tenth of the images")
        if args.theirs % DISTINCT == 0 and args.images % DISTINCT == 0:
            print(f"mIoU apart by {abs(our_score - their_score):.1e}")


if __name__ == "__main__":
    main()
