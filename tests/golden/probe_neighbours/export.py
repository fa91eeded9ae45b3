"""Nearest neighbours: scikit-learn's KNeighborsClassifier (brute force, Euclidean), and the weighted vote from its definition.

Features as in `probe_linear/export.py`, of which the fillers are named `centres`, `train` and `test`.

    {normalisation}.k{k}            i64 [60]   plain majority of k neighbours; normalisation none, l2 or batch-norm
    {normalisation}.weighted.k{k}   i64 [60]   votes exp(cosine / 0.07) of the k most similar
"""

import sys
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.neighbors import KNeighborsClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

KS = [1, 5, 20, 200]


def features(part, count):
    centres = _fill.fill("centres", 6, 16).numpy()
    noise = _fill.fill(part, count, 16).numpy()
    return np.maximum(centres[np.arange(count) % 6] * np.float32(0.5) + noise + np.float32(0.5), 0)


def weighted(x, y, xt, k):
    x, xt = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, xt))
    answers = []
    for image in xt:
        cosine = x @ image
        nearest = np.argsort(-cosine)[:k]
        answers.append(np.bincount(y[nearest], np.exp(cosine[nearest] / 0.07), 6).argmax())
    return np.array(answers)


def main():
    train, test = features("train", 300).astype(np.float64), features("test", 60).astype(np.float64)
    y = np.arange(300) % 6
    mean, scale = train.mean(0), 1 / np.sqrt(train.var(0) + 1e-5)
    normalised = {
        "none": lambda v: v,
        "l2": lambda v: v / np.linalg.norm(v, axis=1, keepdims=True),
        "batch-norm": lambda v: (v - mean) * scale,
    }
    tensors = {}
    for name, normalise in normalised.items():
        x, xt = normalise(train), normalise(test)
        for k in KS:
            plain = KNeighborsClassifier(k, algorithm="brute").fit(x, y).predict(xt)
            tensors[f"{name}.k{k}"] = torch.from_numpy(plain)
            tensors[f"{name}.weighted.k{k}"] = torch.from_numpy(weighted(x, y, xt, k))
            print(name, k, *((tensors[f"{name}{w}.k{k}"].numpy() == np.arange(60) % 6).mean() for w in ("", ".weighted")))
    _fill.write(__file__, tensors, ks=KS, scikit_learn=sklearn.__version__)


if __name__ == "__main__":
    main()
