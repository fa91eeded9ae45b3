"""Bilinear resizing where pixels are areas (`F.interpolate(mode="bilinear", align_corners=False)`), float64.

    input      f64 [1, 2, 5, 7]
    {h}x{w}    f64 [1, 2, h, w]  the input resized (larger, smaller, odd ratios)
    {h}x{w}.grad  f64 [1, 2, 5, 7]  gradient of sum(output * sign filler "cotangent/{h}x{w}") in the input
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

tensors = {"input": _fill.fill("input", 1, 2, 5, 7).double()}
for h, w in [(10, 14), (20, 28), (17, 25), (3, 4), (5, 7)]:
    x = tensors["input"].clone().requires_grad_()
    y = F.interpolate(x, (h, w), mode="bilinear", align_corners=False)
    (y * _fill.sign(f"cotangent/{h}x{w}", *y.shape).double()).sum().backward()
    tensors |= {f"{h}x{w}": y.detach(), f"{h}x{w}.grad": x.grad}
_fill.write(__file__, tensors)
