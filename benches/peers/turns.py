"""Two commands in turns, each as a process of its own from start to end: seconds and peak memory.

Both get the same number of threads: by OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and MKL_NUM_THREADS, and ours by --threads.
"""

import json
import os
import statistics
import subprocess
import sys
import time


def once(command, threads):
    """Seconds, peak memory in MiB and output of a command."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    # Linux counts the memory of a process that starts another one as the other's, too: a small one stands between them.
    between = [sys.executable, "-S", __file__, *(str(c) for c in command)]
    measured = subprocess.run(between, env=os.environ | limits, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(measured)


def measure(command):
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds, child.returncode = time.perf_counter() - begun, os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command}: exit code {child.returncode}")
    return seconds, usage.ru_maxrss / 1024, output


def compare(name, ours, theirs, threads, rounds):
    """Prints a line of a Markdown table: medians (and least) of seconds, their ratio, peak memory. Returns both outputs."""
    runs = {"ours": [], "theirs": []}
    for _ in range(rounds):
        runs["theirs"].append(once(theirs, threads))
        runs["ours"].append(once([*ours, "--threads", threads], threads))
    seconds = {side: [run[0] for run in each] for side, each in runs.items()}
    middle = {side: statistics.median(each) for side, each in seconds.items()}
    shown = {side: f"{middle[side]:.3f} s (from {min(seconds[side]):.3f})" for side in runs}
    memory = {side: max(run[1] for run in each) for side, each in runs.items()}
    print(
        f"| {name} | {threads} | {shown['ours']} | {shown['theirs']} | {middle['theirs'] / middle['ours']:.1f} "
        f"| {memory['ours']:.0f} MiB | {memory['theirs']:.0f} MiB |",
        flush=True,
    )
    return runs["ours"][0][2], runs["theirs"][0][2]


HEAD = "| work | threads | ours | theirs | theirs / ours | our memory | their memory |\n|---|---:|---:|---:|---:|---:|---:|"

if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
