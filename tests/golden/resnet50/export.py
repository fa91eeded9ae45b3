"""ResNet-50: forward in eval mode, forward and backward in train mode, against torchvision's `resnet50`.

Rebuild: fill every tensor of torchvision's state dict by its name (`fc.*` is not used), the input [4, 3, 64, 64] as
"input" (4u - 2), and the cotangent [4, D] as sign filler "cotangent"; see `_fill.py`. Eval mode runs on the first two
images with the filler as it is. For train mode, on all four, the bias of every batch norm `layerI.J.part` is first
raised by `bias_shift[part]`. Truth is float64 arithmetic on these float32 values.

    eval.stages      f64 [5, 9]  probes of the outputs of maxpool, layer1 .. layer4 (row and probe names), eval mode
    eval.features    f32 [2, D]  global average pool of layer4, eval mode
    train.loss       f64 [1]     sum(features * cotangent), train mode (batch statistics)
    train.grads      f64 [n, 9]  probes of the loss's gradient in every parameter but `fc.*`
    train.running    f64 [m, 9]  probes of each running_mean / running_var after that one train-mode forward
    *.fp32_error     f32 [rows]  |p32 - p64| / |p64| of each row's 9 numbers when torch itself computes in float32

Why the shift: the gradient jumps where a ReLU's input crosses zero. Centred on zero, a few of ResNet-50's three million
inputs lie within float32's rounding of it, and float32 gradients are then off by 1e-2 in any implementation. Raised,
hardly any lie there: five float32 variants of torch (1 and 2 threads, oneDNN on and off, channels last) agreed with
float64 to 1.4e-5 in every row. Hold float32 to 3e-5; a run in which some gradient rows are off by 1e-4 or more, and
the stages and running statistics right, has met such a crossing.

Metadata: `arch`; `bias_shift` {part: value}; row names `eval.stages`, `train.grads`, `train.running`;
`fp32_error` {group: worst}, also of the features and the loss (norm-wise).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _resnet  # noqa: E402

_resnet.export(__file__, "resnet50", {"bn1": 1.5, "bn2": 1.5, "bn3": 0.75, "downsample": 0.75})
