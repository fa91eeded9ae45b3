"""Times scikit-learn's LogisticRegression, once per episode, in turns with our solver on the same episodes.

Started by fewshot.sh, which has the bench write features, episodes and our accuracies into the folder --files. An episode's
time is that of fit and predict; slicing and normalising its features is not counted. Ours is everything from features to
accuracies: gather, normalise, Gram matrices, classifiers, queries.
"""

import argparse
import json
import os
import subprocess
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import sklearn
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--files", type=Path, required=True)
parser.add_argument("--criterion", type=Path, required=True, help="criterion's output folder")
parser.add_argument("--shots", type=int, default=5, choices=[1, 5])
parser.add_argument("--rounds", type=int, default=5, help="turns of ours and theirs")
parser.add_argument("--episodes", type=int, default=20, help="scikit-learn's episodes in each round")
arguments = parser.parse_args()

features = load_file(arguments.files / "features.safetensors")["features"]
episodes = json.loads((arguments.files / f"episodes_{arguments.shots}shot.json").read_text())
ours = json.loads((arguments.files / f"ours_{arguments.shots}shot.json").read_text())["per_episode"]


def fit_and_score(episode, dtype=np.float64, **settings):
    """Accuracy and seconds of one episode."""

    def images(groups):
        x = features[np.ravel(groups)].astype(np.float64)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x.astype(dtype), np.repeat(np.arange(len(groups)), len(groups[0]))

    (x, y), (queries, expected) = images(episode["support"]), images(episode["query"])
    start = time.perf_counter()
    predictions = LogisticRegression(**settings).fit(x, y).predict(queries)
    seconds = time.perf_counter() - start
    return np.mean(predictions == expected), seconds


def our_seconds(**environment):
    """Seconds for all episodes, one number per sample of a criterion run."""
    name = f"5way{arguments.shots}shot"
    bench = "cargo bench --quiet -p camtrast-fewshot --bench solver --".split()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*bench, name], check=True, env=os.environ | environment, **quiet)
    sample = json.loads((arguments.criterion / "fewshot" / name / "new" / "sample.json").read_text())
    return [nanoseconds / 1e9 / count for nanoseconds, count in zip(sample["times"], sample["iters"])]


# What is timed -> seconds; scikit-learn's are per episode.
our_times = {"default": [], "one": []}
their_times = {("float64", "default"): [], ("float32", "default"): [], ("float64", "one"): []}
default_differs = 0
warnings.simplefilter("ignore")
for turn in range(arguments.rounds):
    our_times["default"] += our_seconds()
    our_times["one"] += our_seconds(OMP_NUM_THREADS="1")
    for number in range(turn * arguments.episodes, (turn + 1) * arguments.episodes):
        episode = episodes["episodes"][number]
        accuracy, seconds = fit_and_score(episode)
        default_differs += accuracy != ours[number]
        their_times["float64", "default"].append(seconds)
        their_times["float32", "default"].append(fit_and_score(episode, np.float32)[1])
        with threadpool_limits(1):
            their_times["float64", "one"].append(fit_and_score(episode)[1])

checked = arguments.rounds * arguments.episodes
with threadpool_limits(1):
    exact = [fit_and_score(e, tol=1e-10, max_iter=100_000)[0] for e in episodes["episodes"][:checked]]
exact_differs = sum(a != b for a, b in zip(exact, ours))

count = len(episodes["episodes"])
print(f"5-way {arguments.shots}-shot, {features.shape[1]} dimensions, scikit-learn {sklearn.__version__}, {os.cpu_count()} cores")
print(f"mean accuracy of {count} episodes: {np.mean(ours):.4f}")
for threads, times in our_times.items():
    print(f"ours, threads {threads}: {median(times):.3f} s for {count} episodes (median of {len(times)}, from {min(times):.3f})")
for (dtype, threads), times in their_times.items():
    whole, same = count * median(times), median(our_times[threads])
    print(
        f"scikit-learn {dtype}, threads {threads}: {1e3 * median(times):.1f} ms an episode (median of {len(times)}, "
        f"from {1e3 * min(times):.1f}), {whole:.1f} s for {count}: {whole / same:.0f} x ours with as many threads"
    )
print(f"episodes of other accuracy than ours: {exact_differs} of {checked} at tol 1e-10, {default_differs} at the default tol")
raise SystemExit(exact_differs > 0)
