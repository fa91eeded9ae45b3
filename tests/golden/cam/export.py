"""Class activation map and suppression (paper eq. 3), float64, and the two orders of normalising and resizing.

    A        features [3, 16, 3, 3] = 2 * unit filler `features`; image 2 is constant over
             space: A[2, :, i, j] = A[2, :, 0, 0]
    W, b     `fc.weight` [7, 16], `fc.bias` [7] of `_fill.py`
    x        images [3, 3, 84, 84] = filler `x` (4u - 2)

    logits = mean(A) W^T + b;  c = argmax logits;  M = sum_k W[c, k] A[k]  (no ReLU)
    normalise(M) = (M - min) / (max - min) per image, and 0 everywhere where M is constant
    resize = bilinear, align_corners=False, no antialiasing
    normalised_then_resized = resize(normalise(M)): common CAM code (after Zhou et al.)
    resized_then_normalised = normalise(resize(M)): the order of the paper's sentence
    x' = (1 - M) * x

    logits                      f64 [3, 7]
    class                       i64 [3]
    map                         f64 [3, 3, 3]       M, as it is
    map_normalised              f64 [3, 3, 3]
    {order}.rows                f64 [3, 6, 84]      rows 0, 13, 14, 41, 42, 83 of the map at 84 x 84
    {order}.map                 f64 [9]             probe "{order}.map" of the map [3, 84, 84]
    {order}.suppressed          f64 [9]             probe "{order}.suppressed" of x' [3, 3, 84, 84]

In image 2 the map is constant in real arithmetic but rounding may leave max - min near 1e-16 (1e-7 in float32), which
min-max would blow up to a full-range map of noise. "Constant" is therefore max - min <= 1e-6 * max|M| (metadata
`constant_below`), and for image 2 map and x' are exactly 0 and x. Metadata also: `rows`, `orders`.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

ORDERS = ["normalised_then_resized", "resized_then_normalised"]
SIZE, ROWS, CONSTANT_BELOW = 84, [0, 13, 14, 41, 42, 83], 1e-6


def normalise(m):
    low, high = m.amin((1, 2), keepdim=True), m.amax((1, 2), keepdim=True)
    constant = high - low <= CONSTANT_BELOW * m.abs().amax((1, 2), keepdim=True)
    return torch.where(constant, 0.0, (m - low) / torch.where(constant, 1.0, high - low))


def resize(m):
    return F.interpolate(m[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]


features = 2 * _fill.unit("features", 3, 16, 3, 3).double()
features[2] = features[2, :, :1, :1]
weight, bias = _fill.fill("fc.weight", 7, 16).double(), _fill.fill("fc.bias", 7).double()
x = _fill.fill("x", 3, 3, SIZE, SIZE).double()

logits = features.mean((2, 3)) @ weight.T + bias
top = logits.argmax(1)
cam = torch.einsum("nk,nkhw->nhw", weight[top], features)
maps = dict(zip(ORDERS, (resize(normalise(cam)), normalise(resize(cam)))))

tensors = {"logits": logits, "class": top, "map": cam, "map_normalised": normalise(cam)}
for order, m in maps.items():
    suppressed = (1 - m[:, None]) * x
    assert torch.equal(suppressed[2], x[2]) and not m[2].any()
    tensors[f"{order}.rows"] = m[:, ROWS]
    tensors[f"{order}.map"] = _fill.probe(f"{order}.map", m)
    tensors[f"{order}.suppressed"] = _fill.probe(f"{order}.suppressed", suppressed)

best = logits.topk(2).values
print("smallest lead of the top class", (best[:, 0] - best[:, 1]).min().item())
print("largest gap between the orders", (maps[ORDERS[0]] - maps[ORDERS[1]]).abs().max().item())
_fill.write(__file__, tensors, rows=ROWS, orders=ORDERS, constant_below=repr(CONSTANT_BELOW))
