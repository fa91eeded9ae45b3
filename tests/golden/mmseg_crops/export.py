"""Training crops as mmsegmentation 1.2.2 makes them, with every random draw fixed; all of OpenCV's arithmetic on 8 bits.

Packages: see `_mmseg.py`. Image "image" [30, 44, 3] RGB u8, `floor(u * 256)` of the filler's u averaged over 3 x 3 pixels in every other pixel (so that
there are smooth places and rough ones), stored as `image`; labels "labels" [30, 44] u8, `floor(u * 19)` in blocks of 4 x 4 pixels, 255 in the first two rows,
stored as `labels`. mmsegmentation works on BGR, so the images are turned before and after.

Crops k of metadata `crops`, in this order: RandomResize(scale=(44, 30), ratio_range=(r, r), keep_ratio=True), RandomCrop((20, 28)) at `top`, `left`, RandomFlip,
PhotoMetricDistortion with the draws given (null: not applied); an image smaller than the crop is not padded here.

    {k}.scaled  i64 [2]        height and width of the scaled image
    {k}.image   u8 [h, w, 3]   RGB
    {k}.labels  u8 [h, w]

Draws of metadata `choices`: RandomCrop((8, 8), cat_max_ratio=0.75) of "blocks" [20, 20] u8 (class 0, class 1 in rows and columns 15 on, stored) with the offsets
`offsets` (top, left), one after another.

    {name}.chosen  i64 [3]  top, left, and how many offsets were drawn

`rgb_of_all`: PhotoMetricDistortion's saturation and hue on every colour of a grid of 16 levels a channel, [64, 64, 3], stored as its 9 probes of the float64 values.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _mmseg  # noqa: E402
from mmcv.transforms import RandomFlip, RandomResize  # noqa: E402
from mmseg.datasets.transforms import PhotoMetricDistortion, RandomCrop, transforms  # noqa: E402

CROPS = [
    {"ratio": 0.71, "top": 1, "left": 3, "flip": False, "brightness": None, "contrast": None, "first": True, "saturation": None, "hue": None},
    {"ratio": 1.0, "top": 5, "left": 9, "flip": True, "brightness": 17.3, "contrast": 0.81, "first": True, "saturation": 1.37, "hue": -18},
    {"ratio": 1.37, "top": 12, "left": 20, "flip": False, "brightness": -31.9, "contrast": 1.43, "first": False, "saturation": 0.52, "hue": 17},
    {"ratio": 1.97, "top": 30, "left": 51, "flip": True, "brightness": None, "contrast": None, "first": False, "saturation": 0.9, "hue": 1},
    {"ratio": 0.513, "top": 0, "left": 0, "flip": False, "brightness": 8.0, "contrast": 1.2, "first": False, "saturation": None, "hue": None},
]
# Offsets into blocks, of which (10, 10) to (12, 12) hold class 1 in more than a quarter of the crop.
CHOICES = {
    "first": [[12, 12]],
    "third": [[0, 0], [3, 7], [11, 12]],
    "last": [[0, i] for i in range(10)] + [[12, 12]],
    "never": [[i, 0] for i in range(11)],
}


class Draws:
    """Stands for numpy.random in mmsegmentation's module."""

    def __init__(self, values):
        self.values = list(values)

    def __call__(self, *_):
        return self.values.pop(0)

    randint = uniform = __call__


def on(value):
    return [0] if value is None else [1, value]


def distorted(image, crop):
    """In the order in which PhotoMetricDistortion draws; mode 1 is contrast first."""
    contrast = on(crop["contrast"])
    first, last = (contrast, []) if crop["first"] else ([], contrast)
    draws = [*on(crop["brightness"]), int(crop["first"]), *first, *on(crop["saturation"]), *on(crop["hue"]), *last]
    transforms.random = Draws(draws)
    image = PhotoMetricDistortion()({"img": np.ascontiguousarray(image[:, :, ::-1])})["img"]
    assert not transforms.random.values
    return np.ascontiguousarray(image[:, :, ::-1])


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


levels = _fill.uniform("image", (30, 44, 3)) * 256
smooth = sum(np.roll(levels, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
smooth[::2, ::2] = levels[::2, ::2]
image = smooth.astype(np.uint8)
labels = np.kron((_fill.uniform("labels", (8, 11)) * 19).astype(np.uint8), np.ones((4, 4), np.uint8))[:30]
labels[:2] = 255
tensors = {"image": tensor(image), "labels": tensor(labels)}
for k, crop in enumerate(CROPS):
    results = {"img": np.ascontiguousarray(image[:, :, ::-1]), "gt_seg_map": labels.copy(), "seg_fields": ["gt_seg_map"], "img_shape": image.shape[:2]}
    results = RandomResize(scale=(44, 30), ratio_range=(crop["ratio"], crop["ratio"]), keep_ratio=True)(results)
    tensors[f"{k}.scaled"] = torch.tensor(results["img"].shape[:2])
    cut = RandomCrop((20, 28))
    cut.crop_bbox = lambda _, c=crop: (c["top"], c["top"] + 20, c["left"], c["left"] + 28)
    results = RandomFlip(prob=float(crop["flip"]))(cut(results))
    tensors[f"{k}.image"] = tensor(distorted(results["img"][:, :, ::-1], crop))
    tensors[f"{k}.labels"] = tensor(results["gt_seg_map"])

blocks = np.zeros((20, 20), np.uint8)
blocks[15:, 15:] = 1
tensors["blocks"] = tensor(blocks)
for name, offsets in CHOICES.items():
    draws = Draws(value for pair in offsets for value in pair)
    transforms.np = SimpleNamespace(**{n: getattr(np, n) for n in ("unique", "max", "sum")}, random=draws, ndarray=np.ndarray)
    cut = RandomCrop((8, 8), cat_max_ratio=0.75)
    top, _, left, _ = cut.crop_bbox({"img": blocks, "gt_seg_map": blocks})
    tensors[f"{name}.chosen"] = torch.tensor([top, left, len(offsets) - len(draws.values) // 2])
transforms.np = np

grid = np.stack(np.meshgrid(*[np.arange(16, dtype=np.uint8) * 17] * 3, indexing="ij"), -1).reshape(64, 64, 3)
changed = distorted(grid, {"brightness": None, "contrast": None, "first": True, "saturation": 1.21, "hue": -7})
tensors["rgb_of_all"] = _fill.probe("rgb_of_all", tensor(changed))
_fill.write(__file__, tensors, **_mmseg.VERSIONS, crops=CROPS, choices=CHOICES)
