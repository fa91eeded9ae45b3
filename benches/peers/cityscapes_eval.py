"""Masks of 2048 x 1024 pixels scored by cityscapesScripts and by `camtrast segmentation score`, each a process of its own, in turns.

    pip install cityscapesscripts           (its compiled part: see benches/runs/2026-11-25-cpu2/scoring.md)
    python benches/peers/cityscapes_eval.py --camtrast target/release/camtrast [--images 100] [--threads 1] [--rounds 5]

cityscapesScripts works on one thread; its instance scores, which need other files, are switched off. Stops with an error when mIoU
differs at all.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

DISTINCT = 10  # further images are links to these


def draw(np, generator, truth=None):
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
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for i in range(images):
        names = [folder / kind / f"ulm_{i:06}_000019_{kind}_labelIds.png" for kind in ("gtFine", "pred")]
        if i < DISTINCT:
            truth = draw(np, generator)
            for name, mask in zip(names, (truth, draw(np, generator, truth))):
                name.parent.mkdir(exist_ok=True)
                Image.fromarray(mask).save(name)
        else:
            for name in names:
                name.hardlink_to(name.with_name(name.name.replace(f"{i:06}", f"{i % DISTINCT:06}", 1)))


def theirs(folder):
    """Mean IoU, and whether the compiled part computed it."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluation

    args = evaluation.args
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    truths = sorted(map(str, Path(folder, "gtFine").iterdir()))
    predictions = sorted(map(str, Path(folder, "pred").iterdir()))
    result = evaluation.evaluateImgLists(predictions, truths, args)
    return float(result["averageScoreClasses"]), bool(evaluation.CSUPPORT)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camtrast", required=True)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    import turns

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder, arguments.images)
        out = folder / "metrics.json"
        score = [arguments.camtrast, "segmentation", "score", "--quiet", "--ground-truth", folder / "gtFine"]
        ours = [*score, "--predictions", folder / "pred", "--out", out]
        peer = [sys.executable, __file__, "--theirs", folder]
        print(turns.HEAD)
        name = f"cityscapesScripts, {arguments.images} masks of 2048 x 1024"
        _, output = turns.compare(name, ours, peer, arguments.threads, arguments.rounds)
        their_score, compiled = json.loads(output.splitlines()[-1])
        apart = abs(json.loads(out.read_text())["segmentation/mIoU"] - their_score)
    print(f"cityscapesScripts' {'compiled' if compiled else 'Python'} path; mIoU {their_score:.4f}, apart by {apart:.1e}")
    sys.exit(apart > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        print(json.dumps(theirs(sys.argv[2])))
    else:
        main()
