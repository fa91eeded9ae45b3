"""Overlaps, box coding, matching, against torchvision.

Rebuild: `truth` = boxes("truth", 5, 200, 150), `boxes` = boxes("proposals", 60, 200, 150) of `_detection.py`, the first box
replaced by the first truth itself and the second by the second truth moved 3 to the right; offsets [60, 8] are the filler
"offsets" (4u - 2), with the first row's times 10 so that the clamp acts.

    iou              f32 [5, 60]
    encoded          f32 [60, 4]   truth[i % 5] against box i, weights (10, 10, 5, 5)
    decoded          f32 [60, 8]   offsets (two classes) applied to the boxes, weights (10, 10, 5, 5)
    decoded_plain    f32 [60, 8]   the same with weights 1
    clipped          f32 [60, 8]   decoded_plain cut to 200 x 150
    matches_low      i64 [60]      Matcher(0.7, 0.3, allow_low_quality_matches=True); -1 background, -2 ignored
    matches          i64 [60]      Matcher(0.5, 0.5)
"""

import sys
from pathlib import Path

import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, clip_boxes_to_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _detection  # noqa: E402
import _fill  # noqa: E402

truth = _detection.boxes("truth", 5, 200, 150)
boxes = _detection.boxes("proposals", 60, 200, 150)
boxes[0] = truth[0]
boxes[1] = truth[1] + torch.tensor([3.0, 0, 3, 0])
offsets = _fill.fill("offsets", 60, 8)
offsets[0] *= 10

coder, plain = BoxCoder((10.0, 10.0, 5.0, 5.0)), BoxCoder((1.0, 1.0, 1.0, 1.0))
decoded_plain = plain.decode_single(offsets, boxes)
quality = box_iou(truth, boxes)
_fill.write(
    __file__,
    {
        "iou": quality,
        "encoded": coder.encode_single(truth[torch.arange(60) % 5], boxes),
        "decoded": coder.decode_single(offsets, boxes),
        "decoded_plain": decoded_plain,
        "clipped": clip_boxes_to_image(decoded_plain.view(60, 2, 4), (150, 200)).reshape(60, 8),
        "matches_low": Matcher(0.7, 0.3, allow_low_quality_matches=True)(quality),
        "matches": Matcher(0.5, 0.5)(quality),
    },
)
