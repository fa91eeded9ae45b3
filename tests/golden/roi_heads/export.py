"""Second stage against torchvision's RoIHeads: assignment, losses with fixed sampling, what is found.

Rebuild: proposals boxes("proposals", 40, 120, 90, least=8) of `_detection.py`, the first 8 replaced by truth i % 4 moved by
(i + 1) * (0.5, -0.25); ground truth boxes("truth", 4, 120, 90, least=16) with labels 1, 3, 2, 1. Logits [44, 4] are the filler "logits"
(4u - 2) and offsets [44, 16] the filler "offsets", one row for each proposal and then each ground truth.

    labels        i64 [44]     after assignment, ground truth appended
    targets       f32 [44, 4]  offsets to the matched ground truth, weights (10, 10, 5, 5)
    losses        f64 [2]      of all 44 regions: classes, boxes (beta 1/9)
    losses_l1     f64 [1]      boxes with beta 0
    gradients     f64 [2, 9]   probes of the gradients in logits and offsets, named so, of the sum of `losses`
    found_boxes   f32 [n, 4]   what is found in an image of 90 x 120 with score above .2, NMS at .3, 20 at most
    found_scores  f32 [n]
    found_labels  i64 [n]
"""

import sys
from pathlib import Path

import torch
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _detection  # noqa: E402
import _fill  # noqa: E402

truth = _detection.boxes("truth", 4, 120, 90, least=16)
proposals = _detection.boxes("proposals", 40, 120, 90, least=8)
steps = torch.arange(1, 9)[:, None] * torch.tensor([[0.5, -0.25, 0.5, -0.25]])
proposals[:8] = truth[torch.arange(8) % 4] + steps
truth_labels = torch.tensor([1, 3, 2, 1])
heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.2, 0.3, 20)

[regions] = heads.add_gt_proposals([proposals], [truth])
[matches], [labels] = heads.assign_targets_to_proposals([regions], [truth], [truth_labels])
[targets] = heads.box_coder.encode([truth[matches]], [regions])
logits = _fill.fill("logits", 44, 4).requires_grad_()
offsets = _fill.fill("offsets", 44, 16).requires_grad_()
losses = fastrcnn_loss(logits, offsets, [labels], [targets])
sum(losses).backward()
objects = torch.where(labels > 0)[0]
l1 = (offsets.view(44, 4, 4)[objects, labels[objects]] - targets[objects]).abs().sum() / 44
with torch.no_grad():
    [boxes], [scores], [found] = heads.postprocess_detections(logits, offsets, [regions], [(90, 120)])
_fill.write(
    __file__,
    {
        "labels": labels,
        "targets": targets,
        "losses": torch.stack(losses).double(),
        "losses_l1": l1.double().reshape(1),
        "gradients": _fill.probes({"logits": logits.grad, "offsets": offsets.grad}),
        "found_boxes": boxes,
        "found_scores": scores,
        "found_labels": found,
    },
)
