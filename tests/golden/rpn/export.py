"""Region proposal network against torchvision's: predictions, proposals, targets, and losses with fixed sampling.

Rebuild: two maps "map0" [2, 12, 12, 16] and "map1" [2, 12, 6, 8] of padded images of 96 x 128, the images themselves being
(96, 120) and (80, 128); weights are the fillers `rpn.conv.weight`, ... of the names `conv`, `cls_logits`, `bbox_pred`; anchors of
24 and 48, ratios .5, 1, 2. Ground truth: boxes("truth", 4, 120, 80, least=16) in the first image, none in the second. Proposals are
those of training limits: 200 a map before, 60 an image after suppression.

    objectness      f64 [9]       probe of the logits [N, A], named so
    offsets         f64 [9]       probe of the offsets [N, A, 4], named so
    proposals       f32 [n, 4]    of both images, one after the other
    counts          i64 [2]       how many of each
    labels          i64 [N, A]    targets of the anchors: 1 object, 0 background, -1 neither
    positive        i64           rows sampled (of N * A): every object
    negative        i64           every 11th background
    losses          f64 [2, 2]    objectness and boxes, of smooth L1's beta 1/9 and 0
    gradients       f64 [6, 9]    probes of the gradients of the sum of the losses (beta 1/9), metadata `names`
"""

import sys
from pathlib import Path

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _detection  # noqa: E402
import _fill  # noqa: E402

SIZES = [(96, 120), (80, 128)]
head = RPNHead(12, 3)
parameters = {}
for name, parameter in head.named_parameters():
    ours = name.replace("conv.0.0", "conv")
    parameter.data = _fill.fill(f"rpn.{ours}", *parameter.shape)
    parameters[ours] = parameter

generator = AnchorGenerator(((24,), (48,)), ((0.5, 1.0, 2.0),) * 2)
limits = ({"training": 200, "testing": 200}, {"training": 60, "testing": 60})
rpn = RegionProposalNetwork(generator, head, 0.7, 0.3, 256, 0.5, *limits, 0.7)
maps = [_fill.fill("map0", 2, 12, 12, 16), _fill.fill("map1", 2, 12, 6, 8)]
images = ImageList(torch.zeros(2, 3, 96, 128), SIZES)
truth = [{"boxes": _detection.boxes("truth", 4, 120, 80, least=16)}, {"boxes": torch.zeros(0, 4)}]

proposals, _ = rpn.eval()(images, dict(enumerate(maps)))
logits, deltas = head(maps)
counts = [level[0].numel() for level in logits]
objectness, offsets = concat_box_prediction_layers(logits, deltas)
anchors = generator(images, maps)
labels, matched = rpn.assign_targets_to_anchors(anchors, truth)
targets = rpn.box_coder.encode(matched, anchors)
everything = torch.cat(labels)
positive = torch.where(everything == 1)[0]
negative = torch.where(everything == 0)[0][::11]
sampled = torch.cat([positive, negative])


def losses(beta):
    objectness_loss = torch.nn.functional.binary_cross_entropy_with_logits(objectness.flatten()[sampled], everything[sampled])
    boxes = torch.nn.functional.smooth_l1_loss(offsets[positive], torch.cat(targets)[positive], beta=beta, reduction="sum")
    return objectness_loss, boxes / sampled.numel()


# With torchvision's own loss, the sampler replaced by the fixed choice.
mask = lambda rows: list(torch.zeros(len(everything), dtype=torch.uint8).index_fill(0, rows, 1).split(len(everything) // 2))
rpn.fg_bg_sampler = lambda _: (mask(positive), mask(negative))
theirs = rpn.compute_loss(objectness, offsets, labels, targets)
assert all(torch.allclose(a, b) for a, b in zip(theirs, losses(1 / 9)))
sum(theirs).backward(retain_graph=True)

_fill.write(
    __file__,
    {
        "objectness": _fill.probe("objectness", objectness),
        "offsets": _fill.probe("offsets", offsets),
        "proposals": torch.cat(proposals),
        "counts": torch.tensor([len(p) for p in proposals]),
        "labels": torch.stack(labels).to(torch.int64),
        "positive": positive,
        "negative": negative,
        "losses": torch.tensor([[float(x) for x in losses(b)] for b in (1 / 9, 0.0)], dtype=torch.float64),
        "gradients": _fill.probes({name: p.grad for name, p in parameters.items()}),
    },
    names=list(parameters),
)
