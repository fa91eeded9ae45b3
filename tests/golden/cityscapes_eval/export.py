"""Scores of label images by cityscapesScripts itself (`pip install cityscapesscripts`, `evaluateImgLists`).

    {case}/truth       u8 [n, h, w]  ids of gtFine_labelIds files
    {case}/prediction  u8 [n, h, w]  ids of the predictions

Cases: `all` (every id 0..33 on both sides), `absent` (classes in the truth alone, in the prediction alone, in neither), `ignored` (whole regions and one
whole image of void truth, and predictions of ids that are not evaluated), `perfect`, `range` (predictions of 34, 100 and 255).

cityscapesScripts stops at the last (`IndexError`); its scores are those with such predictions set to 0 (unlabeled), which miss their
class and hit no other just as well.

Metadata: `version` of cityscapesScripts; `scores`, JSON {case: {"classes": {name: IoU or null}, "categories": {...}, "mean": .., "category_mean": ..}}.
"""

import math
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluation
from cityscapesscripts.helpers.labels import id2label
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SHAPE = (3, 24, 40)


def blocks(name, ids):
    """Random ids in blocks of 4 x 4."""
    n, h, w = SHAPE
    drawn = np.asarray(ids)[(_fill.uniform(name, (n, h // 4, w // 4)) * len(ids)).astype(int)]
    return drawn.repeat(4, 1).repeat(4, 2).astype(np.uint8)


def noisy(name, truth, ids, share):
    """The truth, with a share of its pixels replaced by random ids."""
    other = np.asarray(ids)[(_fill.uniform(f"{name}/ids", truth.shape) * len(ids)).astype(int)]
    return np.where(_fill.uniform(f"{name}/where", truth.shape) < share, other, truth).astype(np.uint8)


every = list(range(34))
evaluated = [i for i in every if not id2label[i].ignoreInEval]
cases = {}
truth = blocks("all", every)
cases["all"] = truth, noisy("all", truth, every, 0.4)
truth = blocks("absent", [7, 8, 11, 23, 24, 26])
cases["absent"] = truth, noisy("absent", truth, [7, 11, 21, 26, 31, 33], 0.3)
truth = blocks("ignored", evaluated)
truth[0, 8:], truth[2] = 3, 0
cases["ignored"] = truth, noisy("ignored", truth, [0, 4, 9, 10, 14, 18, 29, 30, 7, 13], 0.5)
truth = blocks("perfect", evaluated)
cases["perfect"] = truth, truth.copy()
truth = blocks("range", every)
cases["range"] = truth, noisy("range", truth, [34, 100, 255, 26], 0.3)


def scores(truth, prediction):
    args = evaluation.args
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for i, (t, p) in enumerate(zip(truth, np.where(prediction > 33, 0, prediction))):
            names = [f"{folder}/city_{i:06}_000000_{kind}.png" for kind in ("pred", "gtFine_labelIds")]
            Image.fromarray(p.astype(np.uint8)).save(names[0])
            Image.fromarray(t).save(names[1])
            pairs.append(names)
        result = evaluation.evaluateImgLists(*map(list, zip(*pairs)), args)
    clean = lambda named: {k: None if math.isnan(v) else v for k, v in named.items()}  # noqa: E731
    return {
        "classes": clean({id2label[i].name: result["classScores"][id2label[i].name] for i in evaluated}),
        "categories": {k: v for k, v in clean(result["categoryScores"]).items() if k != "void"},
        "mean": result["averageScoreClasses"],
        "category_mean": result["averageScoreCategories"],
    }


tensors = {
    f"{name}/{what}": torch.from_numpy(array)
    for name, pair in cases.items()
    for what, array in zip(("truth", "prediction"), pair)
}
_fill.write(
    __file__,
    tensors,
    version=version("cityscapesscripts"),
    scores={name: scores(*pair) for name, pair in cases.items()},
)
