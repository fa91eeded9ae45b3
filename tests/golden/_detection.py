"""What the detection cases share: boxes from the filler."""

import torch

import _fill


def boxes(name, count, width, height, least=2.0):
    """Boxes [count, 4] within width x height, sides at least `least`, from the unit filler `name` [count, 4].

    Of a row (a, b, c, d), in float32: w = least + c * c * (width - least), h likewise of d, x1 = a * (width - w),
    y1 = b * (height - h), and the box is [x1, y1, x1 + w, y1 + h].
    """
    a, b, c, d = _fill.unit(name, count, 4).unbind(1)
    w = least + c * c * (width - least)
    h = least + d * d * (height - least)
    x1, y1 = a * (width - w), b * (height - h)
    return torch.stack([x1, y1, x1 + w, y1 + h], 1)
