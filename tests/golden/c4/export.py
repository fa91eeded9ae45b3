"""detectron2's Faster R-CNN on a C4 ResNet with MoCo's settings: one training step with sampling off, and detections.

Run with detectron2's sources on PYTHONPATH (nothing of it has to be compiled: RoIAlign and suppression are torchvision's) and the
packages fvcore, iopath, yacs, omegaconf, hydra-core, portalocker, tabulate, termcolor, cloudpickle, pycocotools, matplotlib.

The settings are those of MoCo's `pascal_voc_R_50_C4_24k_moco.yaml`, with the extra norm behind layer4; the network is an eighth as
wide and the numbers of proposals small (`config` below). BATCH_SIZE_PER_IMAGE is larger than there are anchors or regions, so that
all are trained on and nothing is random; the losses of the first stage are divided by that size all the same.

Rebuild: every tensor is filled by our name of it (metadata `names`, `shapes`), then those whose names end with a key of `scale` are
multiplied by its value. Pixel images "image0" and "image1" of the metadata `sizes` (height, width) are 256 times the unit filler
[height, width, 3], rounded down. Of image i: boxes of `_detection.boxes("truth{i}", 3, width, height, 16)`, classes i + 1, 2, 3.

    anchors     f32 [15, 4]  of the first place, in our order: ratio by ratio, in each size by size
    losses      f64 [4]      of the step: objectness, proposal boxes, classes, boxes
    gradients   f64 [n, 9]   probes of the gradients of their sum, named as metadata `trained`
    boxes       f32 [n, 4]   detections in image 0, which comes alone
    scores      f32 [n]
    labels      i64 [n]      from 1 on

Metadata: also `config`, and `moved`: how far losses and gradients (relative), boxes (pixels) and scores move at most when all weights
change by 3e-7 of themselves, in eight draws of the signs. Gradients move most: where a ReLU's input changes its sign, they jump.
"""

import copy
import sys
from pathlib import Path

import torch
from detectron2.config import get_cfg
from detectron2.layers import get_norm
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _detection  # noqa: E402
import _fill  # noqa: E402
from _detectron2 import to_detectron2  # noqa: E402

torch.set_num_threads(1)
WIDTH, CLASSES, MANY = 8, 4, 4096
SIZES, RATIOS = [32, 64, 128, 256, 512], [0.5, 1.0, 2.0]
IMAGES = [(104, 150), (97, 131)]
SCALE = {
    "bn3.weight": 0.05,
    "rpn.bbox_pred.weight": 0.1,
    "rpn.cls_logits.weight": 0.3,
    "box_predictor.bbox_pred.weight": 0.5,
    "box_predictor.cls_score.weight": 0.05,
}
# MoCo's two files, and below them what is made small.
CONFIG = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 600,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 60,
    "MODEL.ROI_HEADS.NAME": "ExtraNorm",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
    "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
    "MODEL.MASK_ON": False,
    "INPUT.FORMAT": "RGB",
    "MODEL.ROI_HEADS.NUM_CLASSES": CLASSES,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": WIDTH,
    "MODEL.RESNETS.WIDTH_PER_GROUP": WIDTH,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4 * WIDTH,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 800,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 80,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": MANY,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": MANY,
    "TEST.DETECTIONS_PER_IMAGE": 20,
}


@ROI_HEADS_REGISTRY.register()
class ExtraNorm(Res5ROIHeads):
    @classmethod
    def _build_res5_block(cls, cfg):
        blocks, channels = super()._build_res5_block(cfg)
        blocks.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return blocks, channels


# Ours of detectron2's names.
HEADS = {
    "proposal_generator.rpn_head.conv": "rpn.conv",
    "proposal_generator.rpn_head.objectness_logits": "rpn.cls_logits",
    "proposal_generator.rpn_head.anchor_deltas": "rpn.bbox_pred",
    "roi_heads.res5.norm": "box_head.norm",
    "roi_heads.box_predictor.cls_score": "box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred": "box_predictor.bbox_pred",
}
# detectron2's anchor [size][ratio] is at this place of ours, [ratio][size].
ANCHORS = torch.arange(15).view(len(RATIOS), len(SIZES)).T.reshape(-1)


def our_name(name):
    module, kind = name.rsplit(".", 1)
    if module in HEADS:
        return f"{HEADS[module]}.{kind}"
    name = name.replace("roi_heads.res5.", "backbone.res5.").replace("stem.", "").removeprefix("backbone.")
    for t in (1, 2, 3, 4):
        name = name.replace(f"res{t + 1}.", f"layer{t}.")
    for t in (1, 2, 3):
        name = name.replace(f"conv{t}.norm", f"bn{t}")
    return "backbone." + name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")


def rows_of_ours(name):
    """Where the rows of detectron2's tensor stand in ours; None: all in the same order."""
    if name.startswith("rpn.cls_logits"):
        return ANCHORS
    if name.startswith("rpn.bbox_pred"):
        return (4 * ANCHORS[:, None] + torch.arange(4)).reshape(-1)
    if name.startswith("box_predictor.cls_score"):
        return torch.tensor([*range(1, CLASSES + 1), 0])  # background last there, first here
    if name.startswith("box_predictor.bbox_pred"):
        return torch.arange(4, 4 * (CLASSES + 1))  # no boxes of background there
    return None


def our_shape(name, tensor):
    background = 4 if name.startswith("box_predictor.bbox_pred") else 0
    return [tensor.shape[0] + background, *tensor.shape[1:]] if background else list(tensor.shape)


cfg = get_cfg()
cfg.merge_from_list([part for pair in CONFIG.items() for part in pair])
model = build_model(cfg)
state, shapes = {}, {}
for name, tensor in model.state_dict().items():
    if not name.startswith("pixel_") and "cell_anchors" not in name:
        ours = our_name(name)
        assert "layer" not in ours or ".".join(to_detectron2(ours.removeprefix("backbone.")).split(".")) in name, name
        shapes[ours] = our_shape(ours, tensor)
        value = _fill.fill(ours, *shapes[ours])
        for end, factor in SCALE.items():
            value = value * factor if ours.endswith(end) else value
        rows = rows_of_ours(ours)
        state[name] = value if rows is None else value[rows]
missing = model.load_state_dict(state, strict=False)
assert not missing.unexpected_keys and all("pixel" in k or "anchors" in k for k in missing.missing_keys), missing


def batch():
    inputs = []
    for i, (height, width) in enumerate(IMAGES):
        pixels = torch.floor(256 * _fill.unit(f"image{i}", height, width, 3)).to(torch.uint8)
        truth = Instances((height, width))
        truth.gt_boxes = Boxes(_detection.boxes(f"truth{i}", 3, width, height, 16.0))
        truth.gt_classes = torch.tensor([i + 1, 2, 3]) - 1
        inputs.append({"image": pixels.permute(2, 0, 1), "instances": truth, "height": height, "width": width})
    return inputs


def run(model):
    with torch.no_grad():
        found = model.eval()(batch()[:1])[0]["instances"]
    with EventStorage():
        losses = model.train()(batch())
    losses = [losses[k] for k in ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")]
    sum(losses).backward()
    return found, torch.stack(losses).detach().double()


def gradients_of(model):
    gradients = {}
    for name, p in model.named_parameters():
        ours = our_name(name)
        rows, gradient = rows_of_ours(ours), torch.zeros(shapes[ours])
        gradient[... if rows is None else rows] = p.grad
        gradients[ours] = gradient
    return gradients


nudged = [copy.deepcopy(model) for _ in range(8)]
found, losses = run(model)
gradients = gradients_of(model)
moved = []
for i, other in enumerate(nudged):
    for name, p in other.named_parameters():
        p.data *= 1 + 3e-7 * torch.sign(_fill.sign(f"nudge{i}/{name}", *p.shape))
    found_other, losses_other = run(other)
    assert len(found) == len(found_other) and (found.pred_classes == found_other.pred_classes).all()
    moved.append(
        [
            (losses_other / losses - 1).abs().max(),
            max((g - gradients[k]).norm() / gradients[k].norm() for k, g in gradients_of(other).items()),
            (found_other.pred_boxes.tensor - found.pred_boxes.tensor).abs().max(),
            (found_other.scores - found.scores).abs().max(),
        ]
    )
print(losses, found.scores, *moved, sep="\n")
moved = [max(column) for column in zip(*moved)]
(anchors,) = model.proposal_generator.anchor_generator.cell_anchors
_fill.write(
    __file__,
    {
        "anchors": torch.empty_like(anchors).index_copy_(0, ANCHORS, anchors),
        "losses": losses,
        "gradients": _fill.probes(gradients),
        "boxes": found.pred_boxes.tensor,
        "scores": found.scores,
        "labels": found.pred_classes + 1,
    },
    names=list(shapes),
    shapes=list(shapes.values()),
    trained=list(gradients),
    scale=SCALE,
    sizes=IMAGES,
    config=CONFIG,
    moved=[float(f"{m:.1e}") for m in moved],
)
