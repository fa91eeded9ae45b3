"""Linear classifiers of frozen features as scikit-learn's LogisticRegression finds them, in float64.

Features are `relu(centres[y] / 2 + noise + 1/2)` with fillers of `_fill.py`: `centres` [6, 16], `train` [300, 16], `test` [60, 16];
the class of image i is i mod 6, or i mod 2 for names that begin with `two`.

    {name}   f64 [60, c]   probabilities of the test images

Metadata: `cases`: name -> [normalisation, C]. Normalisations: none; l2; batch-norm (mean and variance of the training features, the
variance + 1e-5).
"""

import sys
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

CASES = {
    "weak": ["none", 0.01],
    "plain": ["none", 1.0],
    "strong": ["none", 100.0],
    "unit": ["l2", 10.0],
    "standard": ["batch-norm", 0.1],
    "two": ["none", 1.0],
}


def features(part, count):
    centres = _fill.fill("centres", 6, 16).numpy()
    noise = _fill.fill(part, count, 16).numpy()
    return np.maximum(centres[np.arange(count) % 6] * np.float32(0.5) + noise + np.float32(0.5), 0)


def main():
    train, test = features("train", 300).astype(np.float64), features("test", 60).astype(np.float64)
    tensors = {}
    for name, (normalisation, c) in CASES.items():
        x, xt = train, test
        if normalisation == "l2":
            x, xt = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, xt))
        elif normalisation == "batch-norm":
            mean, scale = train.mean(0), 1 / np.sqrt(train.var(0) + 1e-5)
            x, xt = ((v - mean) * scale for v in (x, xt))
        y = np.arange(len(x)) % (2 if name.startswith("two") else 6)
        model = LogisticRegression(C=c, solver="newton-cg", tol=1e-12, max_iter=10_000).fit(x, y)
        other = LogisticRegression(C=c, tol=1e-10, max_iter=100_000).fit(x, y)
        assert np.allclose(model.predict_proba(xt), other.predict_proba(xt), rtol=0, atol=1e-5)
        tensors[name] = torch.from_numpy(model.predict_proba(xt))
        print(name, (model.predict(xt) == np.arange(len(xt)) % len(model.classes_)).mean())
    _fill.write(__file__, tensors, cases=CASES, scikit_learn=sklearn.__version__)


if __name__ == "__main__":
    main()
