"""ResNet-50 with dilation in place of stride, against torchvision's `replace_stride_with_dilation`.

Rebuild as for `resnet50` (same filler, input, cotangent and bias shift; see its `export.py`). Two variants v: `16` (layer4 dilated) and
`8` (layer3 and layer4).

    {v}.eval.stages   f64 [5, 9]  probes of the outputs of maxpool, layer1 .. layer4, eval mode
    {v}.layer4.shape  i64 [4]     shape of layer4's output, eval mode
    {v}.train.loss    f64 [1]     sum(pooled features * cotangent), train mode
    {v}.train.grads   f64 [n, 9]  probes of its gradient in every parameter but `fc.*`

Metadata: `bias_shift`; row names `eval.stages`, `train.grads`.
"""

import sys
from pathlib import Path

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _resnet  # noqa: E402

torch.set_num_threads(1)
SHIFT = {"bn1": 1.5, "bn2": 1.5, "bn3": 0.75, "downsample": 0.75}

tensors, rows = {}, {}
for variant, dilated in {"16": [False, False, True], "8": [False, True, True]}.items():
    model = _fill.fill_module(torchvision.models.resnet50(replace_stride_with_dilation=dilated)).double()
    x = _fill.fill("input", 4, 3, 64, 64).double()
    truth = _resnet.run(model, x, SHIFT)
    for group in ("eval.stages", "train.grads"):
        tensors[f"{variant}.{group}"] = _fill.probes(truth[group])
        rows[group] = list(truth[group])
    tensors[f"{variant}.layer4.shape"] = torch.tensor(truth["eval.stages"]["layer4"].shape)
    tensors[f"{variant}.train.loss"] = truth["train.loss"]["loss"].reshape(1)
_fill.write(__file__, tensors, bias_shift=SHIFT, **rows)
