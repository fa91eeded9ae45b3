"""DeepLab v3+'s head and the whole network: forward, loss and gradients, float64.

ASPP is `torchvision.models.segmentation.deeplabv3.ASPP` (its dropout off); the decoder is written here in plain torch.nn after Chen et al. 2018.
Separable convolutions are mmcv's `DepthwiseSeparableConvModule`: batch norm and ReLU after either half. Every tensor of the
state dict is filled by its name (`_fill.py`); then the bias of every batch norm of the head is raised by 1.5 and those of the
backbone as in `resnet50`, so that hardly any ReLU's input lies at zero.

Head, variants v `plain` and `separable`: context input "context" [2, 32, 21, 17], low-level input "low" [2, 8, 41, 33], ASPP to 16 channels at
rates 6, 12, 18, 5 classes.

    {v}.aspp      f64 [2, 9]  probes of ASPP's output in train mode and then in eval mode (running statistics moved once)
    {v}.logits    f32 [2, 5, 41, 33] downsampled to every 4th row and column, train mode
    {v}.loss      f64 [1]     cross-entropy against `labels`
    {v}.grads     f64 [n, 9]  probes of the gradient of the loss in every parameter and in both inputs (rows `{v}.grads`)
    {v}.running   f64 [m, 9]  probes of the running statistics after it

Labels "labels" [2, 81, 65] (logits are upsampled to them bilinearly, align_corners=False) are `floor(u * (classes + 1))` of the filler's u, and 255
where that is the number of classes.

Network, variant `network`: torchvision's ResNet-50 at output stride 16 with that head (64 channels, 7 classes) and an auxiliary classifier (32
channels) on layer3, input "input" [2, 3, 65, 97], labels "network.labels" [2, 65, 97].

    network.main, network.auxiliary  f64 [1]  the two losses; the total is main + 0.4 auxiliary
    network.grads  f64 [n, 9]  probes of the total's gradient in every parameter (rows `network.grads`)
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _resnet  # noqa: E402

torch.set_num_threads(1)
RATES = [6, 12, 18]


def unit(inputs, outputs, kernel, rate=1, groups=1):
    padding = rate * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=rate, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Separable(nn.Module):
    def __init__(self, inputs, outputs, rate):
        super().__init__()
        self.depthwise = unit(inputs, inputs, 3, rate, inputs)
        self.pointwise = unit(inputs, outputs, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Decoder(nn.Module):
    def __init__(self, low, channels, classes, separable):
        super().__init__()
        self.low_level = unit(low, 48, 1)
        make = Separable if separable else lambda i, o, rate: unit(i, o, 3, rate)
        self.convs = nn.ModuleList([make(channels + 48, channels, 1), make(channels, channels, 1)])
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, context, low):
        low = self.low_level(low)
        context = F.interpolate(context, low.shape[2:], mode="bilinear", align_corners=False)
        x = torch.cat([context, low], 1)
        for conv in self.convs:
            x = conv(x)
        return self.classifier(x)


class Head(nn.Module):
    def __init__(self, inputs, low, channels, classes, separable=False):
        super().__init__()
        self.aspp = ASPP(inputs, RATES, channels)
        self.aspp.project[3].p = 0.0
        if separable:
            for i, rate in enumerate(RATES):
                self.aspp.convs[i + 1] = Separable(inputs, channels, rate)
        self.decoder = Decoder(low, channels, classes, separable)

    def forward(self, context, low):
        return self.decoder(self.aspp(context), low)


class Auxiliary(nn.Module):
    def __init__(self, inputs, channels, classes):
        super().__init__()
        self.conv = unit(inputs, channels, 3)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, x):
        return self.classifier(self.conv(x))


class Network(Head):
    def __init__(self):
        super().__init__(2048, 256, 64, 7)
        self.backbone = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True])
        del self.backbone.fc
        self.auxiliary = Auxiliary(1024, 32, 7)

    def forward(self, x):
        named, b = {}, self.backbone
        x = b.maxpool(b.relu(b.bn1(b.conv1(x))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = named[name] = getattr(b, name)(x)
        return super().forward(named["layer4"], named["layer1"]), self.auxiliary(named["layer3"])


def prepare(model):
    _fill.fill_module(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not name.startswith("backbone"):
            module.bias.data += 1.5
    return model.double().train()


def loss_of(logits, labels):
    logits = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, labels.long(), ignore_index=255)


def random_labels(name, classes, *shape):
    ids = (_fill.uniform(name, shape) * (classes + 1)).astype("uint8")
    ids[ids == classes] = 255
    return torch.from_numpy(ids)


tensors, rows = {}, {}
labels = random_labels("labels", 5, 2, 81, 65)
for variant in ("plain", "separable"):
    head = prepare(Head(32, 8, 16, 5, variant == "separable"))
    context = _fill.fill("context", 2, 32, 21, 17).double().requires_grad_()
    low = _fill.fill("low", 2, 8, 41, 33).double().requires_grad_()
    train = head.aspp(context)
    logits = head.decoder(train, low)
    loss = loss_of(logits, labels)
    loss.backward()
    grads = {name: p.grad for name, p in head.named_parameters()} | {"context": context.grad, "low": low.grad}
    running = {name: b for name, b in head.named_buffers() if "running" in name}
    with torch.no_grad():
        evaluated = head.eval().aspp(context)
    tensors[f"{variant}.aspp"] = torch.stack([_fill.probe("aspp", train), _fill.probe("aspp", evaluated)])
    tensors[f"{variant}.logits"] = logits.detach()[:, :, ::4, ::4].float().contiguous()
    tensors[f"{variant}.loss"] = loss.detach().reshape(1)
    tensors[f"{variant}.grads"], rows[f"{variant}.grads"] = _fill.probes(grads), list(grads)
    tensors[f"{variant}.running"], rows[f"{variant}.running"] = _fill.probes(running), list(running)

network = prepare(Network())
SHIFT = {"bn1": 1.5, "bn2": 1.5, "bn3": 0.75, "downsample": 0.75}
_resnet.shift_biases(network.backbone, SHIFT)
labels = random_labels("network.labels", 7, 2, 65, 97)
main, auxiliary = (loss_of(x, labels) for x in network(_fill.fill("input", 2, 3, 65, 97).double()))
(main + 0.4 * auxiliary).backward()
tensors["network.main"], tensors["network.auxiliary"] = main.detach().reshape(1), auxiliary.detach().reshape(1)
# The first block of every layer and the head stand for all: fifty kilobytes are soon full.
grads = {n: p.grad for n, p in network.named_parameters() if not n.startswith("backbone.layer") or ".0." in n}
tensors["network.grads"], rows["network.grads"] = _fill.probes(grads), list(grads)
_fill.write(__file__, tensors, bias_shift=SHIFT, **rows)
