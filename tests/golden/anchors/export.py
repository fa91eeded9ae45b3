"""Anchors of `c4` and `fpn` against torchvision's AnchorGenerator, for a padded image of 96 x 160.

    c4     i32 [n, 4]   sizes 32 .. 512 at one map of stride 16
    fpn    i32 [m, 4]   one size a map at strides 4 .. 64, all maps one after the other, every seventh anchor

Metadata: `image` (height, width), `c4_maps`, `fpn_maps` (heights and widths of the maps).
"""

import sys
from pathlib import Path

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

IMAGE, RATIOS = (96, 160), (0.5, 1.0, 2.0)
SIZES = (32, 64, 128, 256, 512)


def anchors(sizes, maps):
    generator = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    images = ImageList(torch.zeros(1, 3, *IMAGE), [IMAGE])
    return generator(images, [torch.zeros(1, 1, *m) for m in maps])[0]


c4 = [(6, 10)]
fpn = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
tensors = {"c4": anchors((SIZES,), c4), "fpn": anchors(tuple((s,) for s in SIZES), fpn)}
tensors["fpn"] = tensors["fpn"][::7].contiguous()
whole = {name: t.to(torch.int32) for name, t in tensors.items()}
assert all((t == whole[name]).all() for name, t in tensors.items())
_fill.write(__file__, whole, image=IMAGE, c4_maps=c4, fpn_maps=fpn)
