"""Times `camtrast probe score` and scikit-learn on the same features, as whole processes in turns, with as many threads.

    linear   a fifth of the training images of each class held out; LogisticRegression for 8 values of C on the rest, the best on the
             held-out ones, fitted to all and tested
    knn      KNeighborsClassifier(algorithm="brute") with k 1, 5, 20, 200 from one search of 200 neighbours, the best k on the held-out
             images, tested; with --each a KNeighborsClassifier of its own for each k, as people write it

scikit-learn runs in float32, as the features are, with its default tol (1e-4) and as many iterations as it wants. With --check the
test accuracy for each C, and for each k, is compared with its answer in float64 (tol 1e-8).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--train", type=Path, required=True, help="safetensors with features and labels")
parser.add_argument("--test", type=Path, required=True)
parser.add_argument("--camtrast", type=Path, default=Path("target/release/camtrast"))
parser.add_argument("--probe", choices=["linear", "knn"], default="linear")
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--check", action="store_true")
parser.add_argument("--each", action="store_true", help="scikit-learn searches once for each k")
parser.add_argument("--work", action="store_true", help="internal: do scikit-learn's part once")
arguments = parser.parse_args()

GRID = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0]
KS = [1, 5, 20, 200]


def load():
    from safetensors.numpy import load_file

    return [load_file(path)[key] for path in (arguments.train, arguments.test) for key in ("features", "labels")]


def logistic(c, x, y, **settings):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=100_000, **settings).fit(x, y)


def votes(x, y, queries):
    """Predicted classes of the queries for each k."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=max(KS), algorithm="brute").fit(x).kneighbors(queries, return_distance=False)
    classes = y.max() + 1
    return [np.array([np.bincount(row, minlength=classes).argmax() for row in y[nearest[:, :k]]]) for k in KS]


def neighbours(k, x, y):
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(k, algorithm="brute").fit(x, y)


def work():
    """scikit-learn's whole process."""
    from sklearn.model_selection import train_test_split

    x, y, xt, yt = load()
    fit_x, held_x, fit_y, held_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    if arguments.probe == "linear":
        best = max(GRID, key=lambda c: logistic(c, fit_x, fit_y).score(held_x, held_y))
        print(best, logistic(best, x, y).score(xt, yt))
    elif arguments.each:
        best = max(KS, key=lambda k: neighbours(k, fit_x, fit_y).score(held_x, held_y))
        print(best, neighbours(best, x, y).score(xt, yt))
    else:
        held = [(answers == held_y).mean() for answers in votes(fit_x, fit_y, held_x)]
        best = held.index(max(held))
        print(KS[best], (votes(x, y, xt)[best] == yt).mean())


def ours(*flags):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "metrics.json"
        command = [arguments.camtrast, "probe", "score", "--train", arguments.train, "--test", arguments.test, "--out", out]
        command += ["--only", arguments.probe, "--device", "cpu", "--threads", str(arguments.threads), "--quiet", *flags]
        _, peak = measured(command, os.environ)
        return json.loads(out.read_text()) | {"peak": peak}


def measured(command, environment):
    """Output and peak memory in MiB of a command."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed")
    return output.strip(), usage.ru_maxrss / 1024


def check():
    import numpy as np

    x, y, xt, yt = load()
    worst = 0
    if arguments.probe == "linear":
        for c in GRID:
            theirs = logistic(c, x.astype(np.float64), y, tol=1e-8).score(xt.astype(np.float64), yt)
            mine = ours("--c", str(c))["probe/linear/top1"]
            worst = max(worst, abs(mine - theirs))
            print(f"C {c:g}: ours {mine:.4f}, scikit-learn in float64 {theirs:.4f}", flush=True)
    else:
        metrics = ours()
        for k, answers in zip(KS, votes(x.astype(np.float64), y, xt.astype(np.float64))):
            mine, theirs = metrics[f"probe/knn/k={k}/top1"], (answers == yt).mean()
            worst = max(worst, abs(mine - theirs))
            print(f"k {k}: ours {mine:.4f}, scikit-learn in float64 {theirs:.4f}")
    print(f"largest difference: {1000 * worst:.2f} images in 1,000")
    return worst > 1e-3


def main():
    if arguments.check:
        raise SystemExit(check())
    environment = os.environ | {f"{name}_NUM_THREADS": str(arguments.threads) for name in ("OMP", "OPENBLAS", "MKL")}
    again = [sys.executable, __file__, *sys.argv[1:], "--work"]
    times = {"ours": [], "scikit-learn": []}
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        metrics = ours()
        times["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        answer, peak = measured(again, environment)
        times["scikit-learn"].append(time.perf_counter() - start)
    for name, seconds in times.items():
        print(f"{name}: median {median(seconds):.2f} s of {[round(s, 2) for s in seconds]}")
    print(f"ratio of medians: {median(times['scikit-learn']) / median(times['ours']):.1f}")
    setting = metrics.get("probe/linear/C" if arguments.probe == "linear" else "probe/knn/k")
    print(f"ours: {setting:g}, {metrics[f'probe/{arguments.probe}/top1']}; scikit-learn: {answer}")
    print(f"peak memory: ours {metrics['peak']:.0f} MiB, scikit-learn {peak:.0f} MiB")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    work() if arguments.work else main()
