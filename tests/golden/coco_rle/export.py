"""Masks of label images as pycocotools 2.0 packs them.

Images "0" to "3" hold the ids 0, 7, 26 and 255: `floor(u * 4)` of the filler's u, in blocks of 1, 3, 5 and 40 pixels, of height and width as in SIZES.

    {k}.labels  u8 [h, w]

Metadata `masks`: for each image an object of {id: [counts, area]}.
"""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SIZES = [(1, 1), (7, 9), (40, 31), (90, 75)]
BLOCKS = [1, 3, 5, 40]
IDS = np.array([0, 7, 26, 255], dtype=np.uint8)

tensors, masks = {}, []
for k, ((height, width), block) in enumerate(zip(SIZES, BLOCKS)):
    rows, columns = -(-height // block), -(-width // block)
    values = np.floor(np.asarray(_fill.uniform(str(k), [rows * columns])) * 4).astype(int).reshape(rows, columns)
    labels = IDS[values].repeat(block, 0).repeat(block, 1)[:height, :width]
    tensors[f"{k}.labels"] = torch.from_numpy(np.ascontiguousarray(labels))
    entry = {}
    for value in np.unique(labels):
        packed = mask.encode(np.asfortranarray(labels == value))
        entry[str(value)] = [packed["counts"].decode(), int(mask.area(packed))]
    masks.append(entry)
_fill.write(__file__, tensors, masks=masks, pycocotools=importlib.metadata.version("pycocotools"))
