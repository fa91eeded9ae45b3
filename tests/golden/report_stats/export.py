"""Writes case.json: intervals of means and paired t-tests as scipy computes them.

Run `python export.py` in this folder; it needs numpy and scipy. The values are stored, so another random generator does not matter.
"""

import json

import numpy as np
import scipy
from scipy import stats


def half(values):
    """Half the 95 % interval of a mean, by Student's t."""
    return stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)


rng = np.random.default_rng(0)
cases = []
# Number of pairs, and how far ours is ahead: two seeds to the episodes of one evaluation, from nothing to far beyond doubt.
for count, ahead in [(2, 0.01), (3, 0.0), (5, 0.02), (10, -0.05), (30, 0.2), (600, 0.005)]:
    theirs = rng.normal(0.5, 0.05, count).round(6)
    ours = (theirs + rng.normal(ahead, 0.02, count)).round(6)
    test = stats.ttest_rel(ours, theirs)
    cases.append({
        "ours": ours.tolist(),
        "theirs": theirs.tolist(),
        "mean": float(np.mean(ours)),
        "half": float(half(ours)),
        "difference": float(np.mean(ours - theirs)),
        "difference_half": float(half(ours - theirs)),
        "p": float(test.pvalue),
    })
with open("case.json", "w") as file:
    json.dump({"scipy": scipy.__version__, "cases": cases}, file)
    file.write("\n")
