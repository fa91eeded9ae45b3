"""One whole forward of torchvision's `fasterrcnn_resnet50_fpn`, 5 classes with background, in eval mode.

Rebuild: every tensor of torchvision's state dict is filled by its own name, then those whose names end with a key of the metadata
`scale` are multiplied by its value (plain fillers give boxes far outside the image). The image [3, 96, 128] is the unit filler
"image". torchvision's transform neither resizes nor pads it (min_size 96, max_size 128); mean and std are ImageNet's.

    maps        f64 [5, 9]   probes of the feature maps, named "map0" .. "map4"
    objectness  f64 [9]      probe of the logits of the anchors, named so
    proposals   f32 [20, 4]  the best 20 of them
    boxes       f32 [n, 4]   detections
    scores      f32 [n]
    labels      i64 [n]

Metadata: `names` and `shapes` of the state dict, `scale`; `float64`: how far torchvision's own result moves (pixels, score) when
everything is computed in float64.
"""

import copy
import sys
from pathlib import Path

import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.rpn import concat_box_prediction_layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

torch.set_num_threads(1)
SCALE = {
    "bn3.weight": 0.2,
    "rpn.head.bbox_pred.weight": 0.02,
    "rpn.head.cls_logits.weight": 0.2,
    "box_predictor.bbox_pred.weight": 0.2,
    "box_predictor.cls_score.weight": 3.0,
}

model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5, min_size=96, max_size=128).eval()
_fill.fill_module(model)
for name, tensor in model.state_dict().items():
    for end, factor in SCALE.items():
        if name.endswith(end):
            tensor *= factor
image = _fill.unit("image", 3, 96, 128)


@torch.no_grad()
def run(model, image):
    images, _ = model.transform([image])
    assert images.tensors.shape == (1, 3, 96, 128)
    maps = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, maps)
    logits, deltas = model.rpn.head(list(maps.values()))
    objectness, _ = concat_box_prediction_layers(logits, deltas)
    return list(maps.values()), objectness, proposals[0], model([image])[0]


maps, objectness, proposals, found = run(model, image)
_, _, exact_proposals, exact = run(copy.deepcopy(model).double(), image.double())
print(len(proposals), len(exact_proposals), len(found["boxes"]), len(exact["boxes"]))
print(found["scores"][:10], found["labels"][:10], found["boxes"][:5])
assert len(exact["boxes"]) == len(found["boxes"]) and (exact["labels"] == found["labels"]).all()
moved = [float(f"{(exact[k] - found[k]).abs().max():.1e}") for k in ("boxes", "scores")]
print(moved)
state = model.state_dict()
_fill.write(
    __file__,
    {
        "maps": _fill.probes({f"map{i}": m for i, m in enumerate(maps)}),
        "objectness": _fill.probe("objectness", objectness),
        "proposals": proposals[:20].contiguous(),
        "boxes": found["boxes"],
        "scores": found["scores"],
        "labels": found["labels"],
    },
    names=list(state),
    shapes=[list(t.shape) for t in state.values()],
    scale=SCALE,
    float64=moved,
)
