"""Writes case.safetensors: few-shot classifiers as scikit-learn finds them, episode by episode, in float64.

Run `python export.py` in this folder; it needs numpy, scikit-learn and safetensors. The stored features and episodes are
drawn here once; the test reads them from the file, so another random generator does not matter.
"""

import numpy as np
import sklearn
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

CLASSES, IMAGES, DIMENSIONS, QUERIES, EPISODES = 8, 16, 16, 5, 3
# Name, ways, shots, whether features are divided by their norm, C.
SHAPES = [
    ("5way1shot", 5, 1, True, 1.0),
    ("5way5shot", 5, 5, True, 1.0),
    ("2way3shot", 2, 3, True, 1.0),
    ("8way2shot", 8, 2, True, 10.0),
    ("5way3shot_raw", 5, 3, False, 1.0),
]


def clustered_features(rng):
    """Non-negative features [CLASSES * IMAGES, DIMENSIONS] like a pooled ReLU layer's: a mean common to all images, class
    centres, and noise that is correlated between dimensions and as large as the distance between centres."""
    mixing = rng.standard_normal((6, DIMENSIONS))
    centres = 1.3 * rng.standard_normal((CLASSES, 1, DIMENSIONS))
    noise = 0.7 * rng.standard_normal((CLASSES, IMAGES, 6)) @ mixing
    features = 1.5 + centres + noise + 0.3 * rng.standard_normal((CLASSES, IMAGES, DIMENSIONS))
    return np.maximum(features, 0).reshape(-1, DIMENSIONS).astype(np.float32)


def episode(rng, ways, shots):
    """Support [ways, shots] and query [ways, QUERIES] indices."""
    classes = rng.permutation(CLASSES)[:ways]
    images = np.stack([k * IMAGES + rng.permutation(IMAGES)[: shots + QUERIES] for k in classes])
    return images[:, :shots], images[:, shots:]


def main():
    rng = np.random.default_rng(2026)
    features = clustered_features(rng)
    tensors = {
        "features": features,
        "labels": np.repeat(np.arange(CLASSES), IMAGES).astype(np.int64),
    }
    for name, ways, shots, normalise, c in SHAPES:
        x = features.astype(np.float64)
        if normalise:
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        found = {k: [] for k in "support query coefficients intercepts probabilities predictions accuracy".split()}
        for _ in range(EPISODES):
            support, query = episode(rng, ways, shots)
            targets = np.repeat(np.arange(ways), shots)
            # lbfgs, the default, also stops on a relative change of its loss, about 1e-6 short of the optimum.
            model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=1000)
            default = LogisticRegression(C=c, tol=1e-12, max_iter=100_000)
            for each in (model, default):
                each.fit(x[support.ravel()], targets)
            assert np.allclose(model.coef_, default.coef_, rtol=0, atol=1e-5)
            predictions = model.predict(x[query.ravel()])
            assert (predictions == default.predict(x[query.ravel()])).all()
            found["support"].append(support)
            found["query"].append(query)
            found["coefficients"].append(model.coef_)
            found["intercepts"].append(model.intercept_)
            found["probabilities"].append(model.predict_proba(x[query.ravel()]))
            found["predictions"].append(predictions)
            found["accuracy"].append(np.mean(predictions == np.repeat(np.arange(ways), QUERIES)))
        tensors |= {f"{name}/{k}": np.ascontiguousarray(np.stack(v)) for k, v in found.items()}
        print(name, "mean accuracy", np.mean(found["accuracy"]))
    save_file(tensors, "case.safetensors", {"scikit-learn": sklearn.__version__, "numpy": np.__version__})


if __name__ == "__main__":
    main()
