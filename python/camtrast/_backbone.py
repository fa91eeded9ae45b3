"""A backbone.safetensors as a torchvision model."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchvision.models import ResNet

ARCH = re.compile(r"resnet(18|34|50|101)(?:-w(\d+))?(?:-(small|v1c))?")
BLOCKS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


def load_backbone(path: str | os.PathLike[str]) -> ResNet:
    """The backbone as a torchvision ResNet in evaluation mode: images [N, 3, H, W] -> pooled features [N, D].

    `fc` is the identity; replace it for a classifier. `metadata` of the model is the file's: `arch`, `method`, `mean`
    and `std` of the normalisation in 0..1 and so on (docs/checkpoint.md). Narrow networks and other stems are the
    same class with other layers.

    Raises ValueError when the file is not a backbone, and ImportError without torchvision.
    """
    from safetensors import safe_open

    with safe_open(os.fspath(path), framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    arch = ARCH.fullmatch(metadata.get("arch", ""))
    if metadata.get("format") != "camtrast-backbone" or arch is None:
        remedy = "convert it with `camtrast checkpoint import`"
        raise ValueError(f"{os.fspath(path)}: is not a backbone of camtrast; {remedy}")
    model = _resnet(int(arch[1]), int(arch[2] or 64), arch[3])
    # The deep stem's names are mmsegmentation's.
    renamed = {_torchvision_name(name): tensor for name, tensor in tensors.items()}
    model.load_state_dict(renamed)
    model.metadata = metadata
    return model.eval()


def _torchvision_name(name: str) -> str:
    return name.replace("stem.7.", "bn1.").replace("stem.", "conv1.")


def _resnet(depth: int, width: int, stem: str | None) -> ResNet:
    from torch import nn
    from torchvision.models import ResNet
    from torchvision.models.resnet import BasicBlock, Bottleneck

    class Narrow(ResNet):  # type: ignore[misc]  # torchvision has no types
        """A ResNet of any width: the one of torchvision begins with 64 channels."""

        def _make_layer(self, block: type[nn.Module], planes: int, *rest: Any, **others: Any) -> Any:
            if planes == 64:
                self.inplanes = width
            return super()._make_layer(block, planes * width // 64, *rest, **others)

    model = Narrow(Bottleneck if depth >= 50 else BasicBlock, BLOCKS[depth])
    model.bn1 = nn.BatchNorm2d(width)
    if stem == "small":
        model.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif stem == "v1c":
        half = width // 2
        model.conv1 = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            nn.Conv2d(half, width, 3, padding=1, bias=False),
        )
    else:
        model.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    model.fc = nn.Identity()
    return model
