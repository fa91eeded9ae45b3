"""What the cases `simsiam`, `byol`, `exemplar` and `camtrast_losses` share: a narrow backbone, heads, batches, SGD, probes.

Every network is float64 and starts from the filler of its state-dict names: `backbone.*` (torchvision's names), `projector.*`,
`predictor.*` (numbered as in `nn.Sequential`), `fc.*`. A second network that must differ from the first is filled under
`{prefix}.` and the same names. Views are [8, 3, 32, 32], input filler `view{i}_{step}`; labels are `arange(8) % 5`.

Lists of tensors are stored as probes, float64 [n, 9], in the sorted order of their names; a probe's own name is the tensor's.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import _fill

WIDTH, FEATURES = 4, 32
BATCH, SIDE, CLASSES = 8, 32, 5


class Backbone(ResNet):
    """Our `resnet18-w4-small`: torchvision's ResNet-18, 4 channels wide, with a 3x3 stem of stride 1 and no pooling."""

    def __init__(self):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, WIDTH, 1, 1, 64
        self.conv1 = nn.Conv2d(3, WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        for i in range(4):
            setattr(self, f"layer{i + 1}", self._make_layer(BasicBlock, WIDTH << i, 2, stride=1 if i == 0 else 2))

    def forward(self, x):
        """The last feature map, [N, 32, 4, 4]."""
        return self.layer4(self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))))


def pool(feature_map):
    return feature_map.mean((2, 3))


def norm_mlp(*sizes, norm):
    """Linear layers, all but the last followed by batch norm and ReLU; `norm`: the last by a batch norm without affine."""
    layers = []
    for inputs, outputs in zip(sizes[:-2], sizes[1:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    layers.append(nn.Linear(*sizes[-2:], bias=not norm))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(sizes[-1], affine=False)] if norm else []))


def moco_mlp(hidden, outputs):
    return nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def filled(module, prefix=""):
    """`module` in float64, each tensor filled under `prefix` and its name."""
    module.load_state_dict({name: _fill.fill(prefix + name, *t.shape) for name, t in module.state_dict().items()})
    return module.double().train()


def views(step, count=2):
    return [_fill.fill(f"view{i}_{step}", BATCH, 3, SIDE, SIDE).double() for i in range(count)]


LABELS = torch.arange(BATCH) % CLASSES


def queue(size, dim):
    """Unit rows [size, dim] in float32, as the queue holds them."""
    return F.normalize(_fill.sign("queue", size, dim).double(), dim=1).float().double()


def info_nce(q, k, negatives, temperature, excluded=None):
    q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
    negative = q @ negatives.T
    if excluded is not None:
        negative = negative.masked_fill(excluded, -torch.inf)
    logits = torch.cat([(q * k).sum(1, keepdim=True), negative], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))


def gradients(module):
    """Probes of the gradients of the parameters that have one."""
    return probes({name: p.grad for name, p in module.named_parameters() if p.grad is not None})


def state(module):
    """Probes of parameters and running statistics."""
    return probes({name: t for name, t in module.state_dict().items() if "num_batches" not in name})


def probes(named):
    return _fill.probes(dict(sorted(named.items())))
