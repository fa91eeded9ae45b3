"""Entropy, effective rank, uniformity, alignment and kNN of feature matrices, in numpy and float64, straight from their definitions.

    X    filler of `_fill.py` of the shape in metadata, named `wide` (N < D), `tall` (N > D), `relu` (negative entries set to 0),
         times metadata `scale` (exact in float32)
    Y    filler `{name}/second`: the other view

    {name}.result   f64 [6]
        H_R         -sum p ln p, p the eigenvalues of np.cov(X.T) over their sum
        rank        exp(-sum s ln s), s the singular values of the centred X over their sum
        U           -ln mean over i < j of exp(-2 |x_i - x_j|^2)
        U unit      the same of x / |x|
        alignment   mean |x / |x| - y / |y||^2
        kNN         share of right votes of the 5 most similar others, labels i mod 3, weights exp(cos / 0.07)
"""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SHAPES, SCALE = {"wide": [20, 33], "tall": [60, 7], "relu": [48, 24]}, 0.25


def entropy(weights):
    p = weights / weights.sum()
    p = p[p > 1e-300]
    return -(p * np.log(p)).sum()


def uniformity(x):
    return -np.log(np.mean([np.exp(-2 * ((a - b) ** 2).sum()) for a, b in combinations(x, 2)]))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def neighbours(x, labels, k):
    x = unit(x)
    right = 0
    for i in range(len(x)):
        cosine = x @ x[i]
        cosine[i] = -np.inf
        nearest = np.argsort(-cosine)[:k]
        votes = np.bincount(labels[nearest], np.exp(cosine[nearest] / 0.07), 3)
        right += votes.argmax() == labels[i]
    return right / len(x)


def main():
    arrays = {}
    for name, shape in SHAPES.items():
        x = _fill.fill(name, *shape).numpy().astype(np.float64)
        x = (np.maximum(x, 0) if name == "relu" else x) * SCALE
        y = _fill.fill(f"{name}/second", *shape).numpy().astype(np.float64)
        eigenvalues = np.clip(np.linalg.eigvalsh(np.cov(x.T)), 0, None)
        singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
        result = [
            entropy(eigenvalues),
            np.exp(entropy(singular)),
            uniformity(x),
            uniformity(unit(x)),
            ((unit(x) - unit(y)) ** 2).sum(1).mean(),
            neighbours(x, np.arange(shape[0]) % 3, 5),
        ]
        print(name, result)
        arrays[f"{name}.result"] = torch.tensor(result, dtype=torch.float64)
    _fill.write(__file__, arrays, scale=repr(SCALE), **SHAPES)


if __name__ == "__main__":
    main()
