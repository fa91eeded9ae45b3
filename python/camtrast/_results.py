"""The numbers of runs and suites, from the files that the program writes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def metrics(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The numbers of a run folder: its metrics.json, as {"fewshot/5way1shot/mean": 0.5531, ...}; fractions in 0..1.

    Raises FileNotFoundError when the folder has none: the run has not ended.
    """
    remedy = "the run has not ended, or the folder is not a run's"
    numbers: dict[str, Any] = json.loads(_existing(Path(run) / "metrics.json", remedy).read_text())
    return numbers


def results(suite: str | os.PathLike[str]) -> pandas.DataFrame | list[dict[str, Any]]:
    """Every number of a suite or a report, one per row, with run, method, seed, task, metric and value.

    A pandas.DataFrame where pandas is installed, otherwise a list of dicts. Reads report.csv, which `camtrast suite
    run` and `camtrast report` write. Raises FileNotFoundError without it.
    """
    remedy = f"run `camtrast report {os.fspath(suite)}` first"
    with _existing(Path(suite) / "report.csv", remedy).open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        # A checkpoint that was given, and not pretrained, has no seed.
        row["seed"] = int(row["seed"]) if row["seed"] else None
        row["value"] = float(row["value"]) if row["value"] else None
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def _existing(path: Path, remedy: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {remedy}")
    return path
