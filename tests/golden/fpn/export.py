"""Feature pyramid against torchvision's FeaturePyramidNetwork with LastLevelMaxPool, forward and gradients.

Rebuild: maps are the fillers "map0" .. "map3" [2, 6 * 2^i, h, w] with sizes (13, 17), (7, 9), (4, 5), (2, 3); 8 channels; weights by
the names `inner.N.weight`, `inner.N.bias`, `layer.N.weight`, `layer.N.bias`. The loss is the sum over levels of level * sign filler
`cotangent/<level>`.

    level0 .. level4   f64 [9]      probes of the outputs, named so
    gradients          f64 [n, 9]   probes of the gradients in the weights and biases (metadata `names`)
"""

import sys
from collections import OrderedDict
from pathlib import Path

from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SIZES = [(13, 17), (7, 9), (4, 5), (2, 3)]
fpn = FeaturePyramidNetwork([6 * 2**i for i in range(4)], 8, LastLevelMaxPool())
parameters = {}
for name, parameter in fpn.named_parameters():
    kind, number, _, part = name.split(".")
    ours = f"{kind.removesuffix('_blocks')}.{number}.{part}"
    parameter.data = _fill.fill(ours, *parameter.shape)
    parameters[ours] = parameter

maps = OrderedDict((str(i), _fill.fill(f"map{i}", 2, 6 * 2**i, *s)) for i, s in enumerate(SIZES))
levels = {f"level{i}": level for i, level in enumerate(fpn(maps).values())}
loss = sum((level * _fill.sign(f"cotangent/{name}", *level.shape)).sum() for name, level in levels.items())
loss.backward()
tensors = {name: _fill.probe(name, level) for name, level in levels.items()}
tensors["gradients"] = _fill.probes({name: p.grad for name, p in parameters.items()})
_fill.write(__file__, tensors, names=list(parameters))
