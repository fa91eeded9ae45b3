"""Runs a bench of ours as `camtrast` runs its work: with its settings of glibc's allocator."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(package, profile, threads, settings):
    """The bench `step` of a package, built with a cargo profile: its lines `NAME VALUE` as numbers."""
    variable, value = re.search(r'ALLOCATOR: .* = \(\s*"(.*)",\s*"(.*)",?\s*\);', (ROOT / "src/lib.rs").read_text()).groups()
    environment = {variable: value} | os.environ | {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)} | settings
    environment.pop("PYTHONPATH", None)
    command = f"cargo bench --quiet --profile {profile} -p {package} --bench step".split()
    lines = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(number) for name, number in re.findall(r"^(\S+) ([\d.e-]+)", lines, re.MULTILINE)}
