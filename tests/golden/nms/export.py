"""Non-maximum suppression against torchvision's `nms` and `batched_nms` (per class).

Rebuild: boxes("nms", 300, 120, 100, least=20) of `_detection.py`; scores are the unit filler "scores" rounded down to 1/64, so that
many tie; boxes 10 to 19 repeat 0 to 9; groups are i % 3.

    kept_30, kept_50, kept_70     i64   rows kept at overlaps of .3, .5, .7
    half                          i64   rows kept of `half_boxes` at .5, whose overlap is exactly that
    half_boxes                    f32 [2, 4]
    grouped_50                    i64   rows kept within groups, one group after the other, each by falling score
"""

import sys
from pathlib import Path

import torch
from torchvision.ops import nms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _detection  # noqa: E402
import _fill  # noqa: E402

boxes = _detection.boxes("nms", 300, 120, 100, least=20)
boxes[10:20] = boxes[:10]
scores = (_fill.unit("scores", 300) * 64).floor() / 64
half = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])
grouped = [torch.arange(300)[g::3][nms(boxes[g::3], scores[g::3], 0.5)] for g in range(3)]
tensors = {f"kept_{int(t * 100)}": nms(boxes, scores, t) for t in (0.3, 0.5, 0.7)}
tensors |= {"half": nms(half, torch.tensor([0.5, 0.4]), 0.5), "half_boxes": half, "grouped_50": torch.cat(grouped)}
_fill.write(__file__, tensors)
