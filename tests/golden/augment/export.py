"""Image operations of `torchvision.transforms.v2.functional` on a float batch [2, 3, 84, 84], computed in float64.

Input: u = unit filler `image` [2, 3, 87, 87]; a = mean of every 4 x 4 window (stride 1); image = clamp(4 (a - 1/2) + 1/2,
0, 1) in float32 (all of it exact in float64 before the one rounding). Range [0, 1], NCHW, RGB.

    probes       f64 [n, 9]  probe of each output, named like its row
    max_abs      f64 [n]     largest absolute value of each output
    fp32_error   f32 [n]     |p32 - p64| / |p64| when torchvision computes in float32; 0 for the hue rows because
                             torchvision's adjust_hue always works in float32: hold hue and composed to 1e-6
    input        f64 [9]     probe "input" of the image batch, to check the rebuilding first

Metadata: `operations`, the row names in order, and `parameters`, JSON {row: parameters}. Rows, each on the plain input:

    crop0..4        resized_crop(top, left, height, width) to 84 x 84, bilinear, antialias off. Beyond the crop's own
                    border the nearest pixel *of the crop* counts: a grid_sample over the whole image must clamp its
                    grid to the crop (pixel centres left .. left + width - 1), or border pixels mix in outside ones.
    pad0..2         zero padding of 8, then the 84 x 84 window at (top, left)
    flip            horizontal
    brightness, contrast, saturation, hue_up, hue_down    adjust_* by `factor`; contrast blends with each image's mean grey
    gray            rgb_to_grayscale, 3 output channels (0.2989 R + 0.587 G + 0.114 B)
    blur0..2        gaussian_blur, `kernel_size` 13, `sigma`, reflected border
    normalize       (x - mean) / std, ImageNet
    composed        one image at a time, then stacked: image 0 crop, flip, brightness, contrast, saturation, hue, blur,
                    normalise; image 1 crop, gray, blur, normalise; `parameters` has every number
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as nnf
import torchvision.transforms.v2.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SIZE, PAD, KERNEL = 84, 8, 13
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def crop(x, box):
    return F.resized_crop(x, *box, size=[SIZE, SIZE], antialias=False)


def blur(x, sigma):
    return F.gaussian_blur(x, [KERNEL, KERNEL], [sigma, sigma])


def composed(x, p):
    y = F.horizontal_flip(crop(x[:1], p["box0"]))
    y = F.adjust_contrast(F.adjust_brightness(y, p["brightness"]), p["contrast"])
    y = F.adjust_hue(F.adjust_saturation(y, p["saturation"]), p["hue"])
    z = F.rgb_to_grayscale(crop(x[1:], p["box1"]), 3)
    return F.normalize(torch.cat([blur(y, p["sigma0"]), blur(z, p["sigma1"])]), MEAN, STD)


BOXES = [[0, 0, 84, 84], [5, 10, 40, 60], [30, 2, 54, 38], [33, 41, 37, 43], [60, 7, 20, 71]]
WINDOWS = [[0, 0], [16, 3], [7, 16]]
OPERATIONS = {
    **{f"crop{i}": (crop, {"box": box}) for i, box in enumerate(BOXES)},
    **{
        f"pad{i}": (lambda x, window: F.crop(F.pad(x, [PAD] * 4), *window, SIZE, SIZE), {"window": window})
        for i, window in enumerate(WINDOWS)
    },
    "flip": (F.horizontal_flip, {}),
    "brightness": (lambda x, factor: F.adjust_brightness(x, factor), {"factor": 1.3}),
    "contrast": (lambda x, factor: F.adjust_contrast(x, factor), {"factor": 0.7}),
    "saturation": (lambda x, factor: F.adjust_saturation(x, factor), {"factor": 1.4}),
    "hue_up": (lambda x, factor: F.adjust_hue(x, factor), {"factor": 0.08}),
    "hue_down": (lambda x, factor: F.adjust_hue(x, factor), {"factor": -0.08}),
    "gray": (lambda x: F.rgb_to_grayscale(x, 3), {}),
    **{f"blur{i}": (blur, {"sigma": sigma}) for i, sigma in enumerate([0.1, 1.0, 2.0])},
    "normalize": (lambda x, mean, std: F.normalize(x, mean, std), {"mean": MEAN, "std": STD}),
    "composed": (
        lambda x, **p: composed(x, p),
        {
            "box0": [5, 10, 40, 60],
            "brightness": 1.3,
            "contrast": 0.7,
            "saturation": 1.4,
            "hue": -0.08,
            "sigma0": 0.6,
            "box1": [30, 2, 54, 38],
            "sigma1": 1.7,
        },
    ),
}

window_means = nnf.avg_pool2d(torch.from_numpy(_fill.uniform("image", (2, 3, SIZE + 3, SIZE + 3))), 4, stride=1)
image = (4 * (window_means - 0.5) + 0.5).clamp(0, 1).float()

truth = {name: f(image.double(), **p) for name, (f, p) in OPERATIONS.items()}
assert all(t.dtype == torch.float64 and t.shape == image.shape for t in truth.values())
single = _fill.probes({name: f(image, **p) for name, (f, p) in OPERATIONS.items()})
tensors = {"input": _fill.probe("input", image), "probes": _fill.probes(truth)}
tensors["max_abs"] = torch.stack([t.abs().max() for t in truth.values()])
tensors["fp32_error"] = ((single - tensors["probes"]).norm(dim=1) / tensors["probes"].norm(dim=1)).float()
print({name: f"{e:.1e}" for name, e in zip(truth, tensors["fp32_error"].tolist())})
_fill.write(
    __file__,
    tensors,
    operations=list(OPERATIONS),
    parameters={name: p for name, (_, p) in OPERATIONS.items()} | {"size": SIZE, "pad": PAD, "kernel_size": KERNEL},
)
