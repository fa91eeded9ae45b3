"""`torchvision.transforms.v2.functional.solarize` at threshold 128 on bytes, as BYOL's appendix B has it.

    bytes   u8 [256]   what becomes of each value 0..255
    floats  f32 [256]  the float image v / 255 at threshold 128 / 255, for the same values
"""

import sys
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
floats = F.solarize(values.float() / 255, 128 / 255)
_fill.write(__file__, {"bytes": F.solarize(values, 128).view(-1), "floats": floats.view(-1)})
