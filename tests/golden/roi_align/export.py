"""RoIAlign, values and gradients, against torchvision's kernels.

Rebuild: features [2, 5, 13, 17] are the filler "features" (4u - 2). Regions: 12 of boxes("regions", 12, 68, 52) of
`_detection.py` (a map of stride 4), in image i % 2, then those in `extra` (over every border, far outside, of zero size, upside
down, larger than the image). For each case name `aligned{0,1}_ratio{0,2}_bins{3,7}` the cotangent is the sign filler
`cotangent/<case>` [R, 5, bins, bins].

    extra                  f32 [n, 5]
    <case>                 f64 [9] probes of the pooled regions, named by the case
    <case>.values          f32 [R, bins, bins]   channel 0 (of the 3-bin cases)
    <case>.gradient        f32 [2, 13, 17]       gradient in channel 0 of sum(pooled * cotangent)
    <case>.gradient_probe  f64 [9]               of the whole gradient, named `<case>/gradient`
    levels                 f64 [9]               MultiScaleRoIAlign (7 bins, ratio 2) on four maps, named "levels"

The maps of `levels` are the fillers "level0" .. "level3" [2, 3, 64 / 2^i, 96 / 2^i] of an image of 256 x 384, its regions
boxes("scaled", 40, 384, 256), image i % 2 (all of image 0 first).
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _detection  # noqa: E402
import _fill  # noqa: E402

STRIDE = 4
extra = torch.tensor(
    [
        [0, -10.0, -7.0, 20.0, 18.0],
        [1, 50.0, 30.0, 90.0, 80.0],
        [0, -30.0, 10.0, 120.0, 20.0],
        [1, 100.0, 100.0, 140.0, 120.0],
        [0, 20.0, 20.0, 20.0, 20.0],
        [1, 68.0, 52.0, 68.0, 52.0],
        [0, 12.0, 8.0, 12.0, 40.0],
        [1, 40.0, 40.0, 30.0, 20.0],
        [0, 0.0, 0.0, 68.0, 52.0],
        [1, -4.0, -4.0, 72.0, 56.0],
        [0, 16.0, 16.0, 16.001, 16.001],
    ]
)
ours = _detection.boxes("regions", 12, 68, 52)
regions = torch.cat([torch.cat([(torch.arange(12) % 2)[:, None].float(), ours], 1), extra])

tensors = {"extra": extra}
cases = []
for aligned in (False, True):
    for ratio in (0, 2):
        for bins in (3, 7):
            name = f"aligned{int(aligned)}_ratio{ratio}_bins{bins}"
            cases.append(name)
            features = _fill.fill("features", 2, 5, 13, 17).requires_grad_()
            pooled = roi_align(features, regions, bins, 1 / STRIDE, ratio, aligned)
            (pooled * _fill.sign(f"cotangent/{name}", *pooled.shape)).sum().backward()
            tensors[name] = _fill.probe(name, pooled)
            if bins == 3:
                tensors[f"{name}.values"] = pooled[:, 0].contiguous()
            tensors[f"{name}.gradient"] = features.grad[:, 0].contiguous()
            tensors[f"{name}.gradient_probe"] = _fill.probe(f"{name}/gradient", features.grad)

maps = OrderedDict((str(i), _fill.fill(f"level{i}", 2, 3, 64 >> i, 96 >> i)) for i in range(4))
boxes = _detection.boxes("scaled", 40, 384, 256)
pooled = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)(maps, [boxes[0::2], boxes[1::2]], [(256, 384)] * 2)
tensors["levels"] = _fill.probe("levels", pooled)
_fill.write(__file__, tensors, cases=cases)
