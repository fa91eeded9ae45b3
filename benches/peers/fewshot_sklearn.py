"""600 few-shot episodes by scikit-learn's LogisticRegression and by `camtrast fewshot score`, each a process of its own, in turns.

    pip install numpy scikit-learn safetensors
    python benches/peers/fewshot_sklearn.py --camtrast target/release/camtrast [--threads 1] [--rounds 5]

Features are of miniImageNet's test split in size and kind: 12,000 images, 2048 dimensions, pooled after a ReLU. Both processes read
the same files, scale features to length 1 and print the accuracy of every episode. Stops with an error when an episode's accuracy
differs from that of scikit-learn run to convergence (tol 1e-10), which is not timed. That run describes images by the directions that
the support spans, at most 25 numbers instead of 2048: the optimum's weights lie there, so it is the same optimum, found sooner.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

CLASSES, IMAGES, DIMENSIONS, EPISODES, WAYS, QUERIES = 20, 600, 2048, 600, 5, 15


def make(folder):
    """A features file, and an episodes file for 1 and for 5 shots."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    common = np.abs(rng.standard_normal(DIMENSIONS))
    centres = rng.standard_normal((CLASSES, 1, DIMENSIONS)) * 0.25
    within = rng.standard_normal((CLASSES * IMAGES, 300)) @ (rng.standard_normal((300, DIMENSIONS)) * 0.045)
    features = np.maximum(within.reshape(CLASSES, IMAGES, DIMENSIONS) + centres + common, 0).astype(np.float32)
    labels = np.repeat(np.arange(CLASSES), IMAGES).astype(np.int64)
    save_file({"features": features.reshape(-1, DIMENSIONS), "labels": labels}, folder / "features.safetensors")
    for shots in (1, 5):
        episodes = []
        for _ in range(EPISODES):
            classes = rng.permutation(CLASSES)[:WAYS]
            images = [(k * IMAGES + rng.permutation(IMAGES)[: shots + QUERIES]).tolist() for k in classes]
            episodes.append({"support": [i[:shots] for i in images], "query": [i[shots:] for i in images]})
        whole = {"ways": WAYS, "shots": shots, "queries": QUERIES, "episodes": episodes}
        (folder / f"episodes_{shots}shot.json").write_text(json.dumps(whole))


def accuracies(features, episodes, spanned=False, **settings):
    """What scikit-learn's users write: a classifier for each episode. `spanned`: in the space that the support spans."""
    from sklearn.linear_model import LogisticRegression

    features = load_file(features)["features"]

    def images(groups):
        x = features[np.ravel(groups)].astype(np.float64)
        return x / np.linalg.norm(x, axis=1, keepdims=True), np.repeat(np.arange(len(groups)), len(groups[0]))

    result = []
    for episode in json.loads(Path(episodes).read_text())["episodes"]:
        (x, y), (queries, expected) = images(episode["support"]), images(episode["query"])
        if spanned:
            basis = np.linalg.qr(x.T).Q
            x, queries = x @ basis, queries @ basis
        result.append(float(np.mean(LogisticRegression(**settings).fit(x, y).predict(queries) == expected)))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camtrast", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    arguments = parser.parse_args()
    import turns

    warnings.simplefilter("ignore")
    print(turns.HEAD)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder)
        features, apart = folder / "features.safetensors", 0
        for shots in arguments.shots:
            episodes, out = folder / f"episodes_{shots}shot.json", folder / f"ours_{shots}shot.json"
            ours = [arguments.camtrast, "fewshot", "score", "--quiet", "--features", features, "--episodes", episodes, "--out", out]
            theirs = [sys.executable, __file__, "--theirs", features, episodes]
            turns.compare(f"few-shot, 600 5-way {shots}-shot episodes", ours, theirs, arguments.threads, arguments.rounds)
            exact = accuracies(features, episodes, spanned=True, tol=1e-10, max_iter=100_000)
            apart += sum(a != b for a, b in zip(exact, json.loads(out.read_text())["per_episode"], strict=True))
    print(f"episodes of other accuracy than scikit-learn's at tol 1e-10: {apart} of {EPISODES * len(arguments.shots)}")
    sys.exit(apart > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        print(json.dumps(accuracies(*sys.argv[2:])))
    else:
        main()
