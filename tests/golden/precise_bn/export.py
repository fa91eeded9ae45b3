"""fvcore's `update_bn_stats` on two convolutions, each with a batch norm, and batches of different sizes.

Rebuild (`_fill.py`): `conv1.weight` [6, 3, 3, 3], `conv2.weight` [4, 6, 1, 1] (stride 1, padding 1 and 0, no bias), `bn1.*` [6] and
`bn2.*` [4], each by its name. The network is conv1, bn1, ReLU, conv2, bn2. Batch i is the input `batch{i}` of the shape that the
metadata `shapes` has at i. Train mode; bn2 normalises by the batch, too.

    bn1.running_mean, bn1.running_var     f64 [6]     afterwards, computed in float64
    bn2.running_mean, bn2.running_var     f64 [4]
    output                                f64 [9]     probe of the last batch's output in train mode, named so

Metadata: `shapes`; `fvcore`, its version; `float32`: largest difference to the same in float32.
"""

import copy
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from fvcore.nn.precise_bn import update_bn_stats
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SHAPES = [[2, 3, 5, 7], [1, 3, 9, 4], [4, 3, 6, 6]]

net = nn.Sequential()
net.add_module("conv1", nn.Conv2d(3, 6, 3, padding=1, bias=False))
net.add_module("bn1", nn.BatchNorm2d(6))
net.add_module("relu", nn.ReLU())
net.add_module("conv2", nn.Conv2d(6, 4, 1, bias=False))
net.add_module("bn2", nn.BatchNorm2d(4))
_fill.fill_module(net).train()
single = copy.deepcopy(net)
net.double()
batches = [_fill.fill(f"batch{i}", *shape) for i, shape in enumerate(SHAPES)]

update_bn_stats(net, [batch.double() for batch in batches], len(SHAPES))
update_bn_stats(single, batches, len(SHAPES))
names = [f"{bn}.running_{part}" for bn in ("bn1", "bn2") for part in ("mean", "var")]
tensors = {name: net.state_dict()[name].clone() for name in names}
worst = max((single.state_dict()[name].double() - value).abs().max() for name, value in tensors.items())
tensors = tensors | {"output": _fill.probe("output", net(batches[-1].double()))}
_fill.write(__file__, tensors, shapes=SHAPES, fvcore=version("fvcore"), float32=float(f"{worst:.1e}"))
