"""RankMe, alpha-ReQ, LiDAR, LogME and linear CKA in numpy and float64, straight from their definitions.

    X    filler of `_fill.py` of the shape in metadata, named `wide` (N < D), `tall` (N > D), `relu` (negative entries set to 0); column
         j times 1 / (1 + j / 8)
    Y    filler `{name}/second` of shape [N, 5]
    V    X[:, None] + filler `{name}/views` [N, 3, D] / 2
    labels   i mod 3

    {name}.result   f64 [5]
        RankMe      exp(-sum p ln p), p = sigma / sum sigma + 1e-7, sigma the singular values of X
        alpha-ReQ   minus the slope of ln eigenvalue on ln j, j = 11 .. 50 (from 1 where there are fewer than 14), weights 1 / j
        LiDAR       exp(-sum p ln p), p = lambda / sum lambda + 1e-7, lambda the eigenvalues of W^-1/2 B W^-1/2
        LogME       mean over classes of the maximised log evidence per image, with the full covariance of the weights
        CKA         HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) from centred N x N kernels
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SHAPES = {"wide": [20, 33], "tall": [90, 7], "relu": [120, 40]}


def smooth_rank(weights):
    p = weights / weights.sum() + 1e-7
    return np.exp(-(p * np.log(p)).sum())


def alpha_req(x):
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    eigenvalues = eigenvalues[eigenvalues > eigenvalues[0] * 1e-12]
    j = np.arange(11 if len(eigenvalues) >= 14 else 1, min(len(eigenvalues), 50) + 1)
    # polyfit's weights multiply residuals, before they are squared.
    return -np.polyfit(np.log(j), np.log(eigenvalues[j - 1]), 1, w=np.sqrt(1 / j))[0]


def lidar(views):
    n, q, d = views.shape
    means = views.mean(1)
    between = np.cov(means.T)
    around = (views - means[:, None]).reshape(n * q, d)
    within = around.T @ around / (n * (q - 1)) + 1e-4 * np.eye(d)
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    return smooth_rank(np.clip(np.linalg.eigvalsh(root @ between @ root), 0, None))


def logme(f, labels):
    n, d = f.shape
    found = []
    for k in range(labels.max() + 1):
        y = (labels == k).astype(float)
        alpha = beta = 1.0
        for _ in range(100):
            a = alpha * np.eye(d) + beta * f.T @ f
            m = beta * np.linalg.solve(a, f.T @ y)
            t = alpha / beta
            gamma = np.trace(beta * np.linalg.solve(a, f.T @ f))
            alpha, beta = gamma / (m @ m + 1e-5), (n - gamma) / (((f @ m - y) ** 2).sum() + 1e-5)
            if abs(alpha / beta - t) <= 1e-3 * t:
                break
        a = alpha * np.eye(d) + beta * f.T @ f
        m = beta * np.linalg.solve(a, f.T @ y)
        evidence = d * np.log(alpha) + n * np.log(beta) - n * np.log(2 * np.pi) - np.linalg.slogdet(a)[1]
        found.append((evidence - beta * ((f @ m - y) ** 2).sum() - alpha * m @ m) / 2 / n)
    return np.mean(found)


def cka(x, y):
    h = np.eye(len(x)) - 1 / len(x)
    hsic = lambda a, b: np.trace(a @ a.T @ h @ b @ b.T @ h)  # noqa: E731
    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def main():
    arrays = {}
    for name, (n, d) in SHAPES.items():
        x = _fill.fill(name, n, d).numpy().astype(np.float64)
        x = (np.maximum(x, 0) if name == "relu" else x) / (1 + np.arange(d) / 8)
        y = _fill.fill(f"{name}/second", n, 5).numpy().astype(np.float64)
        views = x[:, None] + _fill.fill(f"{name}/views", n, 3, d).numpy().astype(np.float64) / 2
        result = [
            smooth_rank(np.linalg.svd(x, compute_uv=False)),
            alpha_req(x),
            lidar(views),
            logme(x, np.arange(n) % 3),
            cka(x, y),
        ]
        print(name, result)
        arrays[f"{name}.result"] = torch.tensor(result, dtype=torch.float64)
    _fill.write(__file__, arrays, **SHAPES)


if __name__ == "__main__":
    main()
