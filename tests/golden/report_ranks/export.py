"""Writes case.json: rank correlations, their permutation tests, Holm's correction, Friedman's test and Nemenyi's critical values as scipy
computes them.

Run `python export.py` in this folder; it needs numpy and scipy. Holm's correction is written out, because scipy has none. The values are
stored, so another random generator does not matter.
"""

import json

import numpy as np
import scipy
from scipy import stats


def holm(p):
    """Holm's step-down values (Holm 1979): the i-th smallest of m is multiplied by m - i, and none is below one before it."""
    p = np.asarray(p)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    most = 0.0
    for i, place in enumerate(order):
        most = max(most, min(1.0, (len(p) - i) * p[place]))
        corrected[place] = most
    return corrected


rng = np.random.default_rng(0)
correlations = []
# Number of backbones, how closely the numbers agree, and to how many digits they are rounded, which makes ties.
for count, noise, digits in [(6, 0.1, 6), (7, 1.0, 6), (18, 0.5, 1), (18, 3.0, 0), (30, 0.3, 6), (60, 1.0, 1)]:
    x = rng.normal(0, 1, count).round(digits)
    y = (x + rng.normal(0, noise, count)).round(digits)
    correlations.append({
        "x": x.tolist(),
        "y": y.tolist(),
        "spearman": float(stats.spearmanr(x, y).statistic),
        "kendall": float(stats.kendalltau(x, y, variant="b").statistic),
    })
friedman = []
# Blocks, methods, and digits as above.
for blocks, methods, digits in [(2, 3, 6), (3, 6, 6), (5, 4, 1), (10, 8, 6), (3, 10, 1)]:
    table = (rng.normal(0, 1, (blocks, methods)) + np.arange(methods) * 0.3).round(digits)
    test = stats.friedmanchisquare(*table.T)
    friedman.append({
        "blocks": table.tolist(),
        "ranks": stats.rankdata(-table, axis=1).mean(0).tolist(),
        "statistic": float(test.statistic),
        "p": float(test.pvalue),
    })
corrections = []
for count in [1, 2, 5, 12]:
    p = (rng.random(count) ** 3).round(4)
    corrections.append({"p": p.tolist(), "holm": holm(p).tolist()})
corrections.append({"p": [0.01, 0.01, 0.04, 0.03], "holm": holm([0.01, 0.01, 0.04, 0.03]).tolist()})
permutations = []
# Number of runs, how closely the numbers agree, and digits, as above. Up to eight runs all permutations are tried.
for count, noise, digits in [(4, 0.1, 6), (6, 0.3, 6), (6, 1.0, 0), (7, 1.0, 1), (8, 2.0, 0), (15, 1.0, 6)]:
    x = rng.normal(0, 1, count).round(digits)
    y = (x + rng.normal(0, noise, count)).round(digits)
    exact = count <= 8
    test = stats.permutation_test(
        (x,), lambda x: stats.spearmanr(x, y).statistic, permutation_type="pairings", n_resamples=np.inf if exact else 20000, rng=1
    )
    permutations.append({"x": x.tolist(), "y": y.tolist(), "p": float(test.pvalue)})
# Nemenyi's q: the studentized range of infinitely many degrees of freedom, divided by the root of two.
nemenyi = [float(stats.studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)) for k in range(2, 21)]
with open("case.json", "w") as file:
    json.dump({
        "scipy": scipy.__version__,
        "correlations": correlations,
        "permutations": permutations,
        "friedman": friedman,
        "holm": corrections,
        "nemenyi": nemenyi,
    }, file)
    file.write("\n")
