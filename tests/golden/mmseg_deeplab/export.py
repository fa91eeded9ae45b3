"""DeepLab v3+ as mmsegmentation 1.2.2 builds and trains it: one step of its own modules, how its heads start, and its learning rate.

Packages: see `_mmseg.py`. Everything is float64 on one thread. Names are ours (`ours` below says which is whose); every parameter and
buffer is filled by its name (`_fill.py`). The convolution that ends ASPP is
one of image pooling and then the four other branches there; we have two tensors, `aspp.project.pooled.weight` and `aspp.project.0.weight`.

Network v `50` (ResNetV1c-50, width 4) and `18` (ResNetV1c-18, width 8), output stride 8, atrous rates 3, 6, 9, 16 channels in the head, 5 classes,
auxiliary head on layer3, dropout 0, train mode; input "input" [3, 3, 65, 97], labels "labels" [3, 65, 97] `floor(u * 6)` of the filler's u, 255 for 5.

    {v}.losses  f64 [2]      decode head's loss, and the auxiliary head's times 0.4
    {v}.logits  f64 [2, 9]   probes of both heads' logits (names "main", "auxiliary")
    {v}.grads   f64 [n, 9]   probes of the gradient of the sum of the losses in every parameter (rows `{v}.grads`)
    initial     f64 [m]      standard deviation of each convolution of freshly made heads of full width: 2048 features, 512 channels, 19 classes,
                             after `init_weights` (rows `initial`)
    lr          f64 [200]    learning rates of PolyLR(eta_min=1e-4, power=0.9, end=200) from 0.01
"""

import sys
from pathlib import Path

import torch
from mmengine.structures import PixelData

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _mmseg  # noqa: E402
from mmengine.optim.scheduler import PolyLR  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

torch.set_num_threads(1)
CLASSES, CHANNELS = 5, 16
BOTTLENECK, POOLED = "aspp.project.0.weight", "aspp.project.pooled.weight"
MODULES = [
    ("decode_head.image_pool.1.conv.", "aspp.convs.4.1."),
    ("decode_head.image_pool.1.bn.", "aspp.convs.4.2."),
    ("decode_head.aspp_modules.", "aspp.convs."),
    ("decode_head.bottleneck.", "aspp.project."),
    ("decode_head.c1_bottleneck.", "decoder.low_level."),
    ("decode_head.sep_bottleneck.", "decoder.convs."),
    ("decode_head.conv_seg.", "decoder.classifier."),
    ("auxiliary_head.convs.0.", "auxiliary.conv."),
    ("auxiliary_head.conv_seg.", "auxiliary.classifier."),
]
PARTS = [(".depthwise_conv.", ".depthwise."), (".pointwise_conv.", ".pointwise."), (".conv.weight", ".0.weight"), (".bn.", ".1.")]


def ours(name):
    if name.startswith("backbone."):
        return name
    for theirs, own in MODULES:
        if name.startswith(theirs):
            name = own + name.removeprefix(theirs)
    for theirs, own in PARTS:
        name = name.replace(theirs, own)
    return name


def split(named):
    """The tensors by our names, one of theirs in two."""
    out = {}
    for name, tensor in named.items():
        if ours(name) == BOTTLENECK:
            size = tensor.shape[0]
            out[POOLED], out[BOTTLENECK] = tensor[:, :size], tensor[:, size:]
        else:
            out[ours(name)] = tensor
    return out


def filled(named):
    """What their module is to hold."""
    values = {name: _fill.fill(name, *tensor.shape) for name, tensor in split(named).items()}
    values[BOTTLENECK] = torch.cat([values.pop(POOLED), values[BOTTLENECK]], 1)
    return {name: values[ours(name)] for name in named}


def labels():
    ids = (_fill.uniform("labels", (3, 65, 97)) * (CLASSES + 1)).astype("int64")
    ids[ids == CLASSES] = 255
    return torch.from_numpy(ids)


tensors, rows = {}, {}
samples = [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in labels()]
for depth, width in ((50, 4), (18, 8)):
    parts = torch.nn.ModuleDict(
        zip(("backbone", "decode_head", "auxiliary_head"), _mmseg.deeplab(depth, width, CHANNELS, CLASSES, (3, 6, 9)))
    )
    parts.load_state_dict(filled(parts.state_dict()))
    parts.double().train()
    maps = parts["backbone"](_fill.fill("input", 3, 3, 65, 97).double())
    logits = [parts[head](maps) for head in ("decode_head", "auxiliary_head")]
    losses = [parts[head].loss_by_feat(x, samples)["loss_ce"] for head, x in zip(("decode_head", "auxiliary_head"), logits)]
    sum(losses).backward()
    grads = split({name: p.grad for name, p in parts.named_parameters()})
    tensors[f"{depth}.losses"] = torch.stack(losses).detach()
    tensors[f"{depth}.logits"] = _fill.probes(dict(zip(("main", "auxiliary"), logits)))
    tensors[f"{depth}.grads"], rows[f"{depth}.grads"] = _fill.probes(grads), list(grads)

torch.manual_seed(0)
_, head, auxiliary = _mmseg.deeplab(50, 64, 512, 19, (12, 24, 36), 0.1)
head.init_weights()
auxiliary.init_weights()
named = {f"decode_head.{n}": p for n, p in head.named_parameters()} | {f"auxiliary_head.{n}": p for n, p in auxiliary.named_parameters()}
deviations = {name: p.double().std() for name, p in split(named).items() if p.dim() == 4}
tensors["initial"], rows["initial"] = torch.stack(list(deviations.values())).detach(), list(deviations)

optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.01)
scheduler = PolyLR(optimizer, eta_min=1e-4, power=0.9, begin=0, end=200, by_epoch=False)
rates = []
for _ in range(200):
    rates.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    scheduler.step()
tensors["lr"] = torch.tensor(rates, dtype=torch.float64)
_fill.write(__file__, tensors, **_mmseg.VERSIONS, **rows)
