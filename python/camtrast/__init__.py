"""camtrast from Python: its command, its numbers, its backbones. The work is done by the program."""

from ._backbone import load_backbone
from ._program import NotUsable
from ._results import metrics, results
from ._run import Failed, run

__all__ = ["Failed", "NotUsable", "load_backbone", "metrics", "results", "run"]
