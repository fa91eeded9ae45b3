"""Split batch norm as in MoCo's CIFAR demo: one device's batch normalised as if it lay on several, all float64.

The demo views [N, C, H, W] as [N/S, S*C, H, W] for S splits, so split s holds the images whose index is s modulo S
(interleaved, not contiguous runs of N/S); each split moves its own copy of the running statistics (momentum 0.1, unbiased
variance, eps 1e-5) and the layer keeps the mean of the copies. In eval mode it is a plain batch norm.

Rebuild (`_fill.py`): `bn.weight`, `bn.bias`, `bn.running_mean`, `bn.running_var` [6]; input `input` [8, 6, 5, 5];
cotangent = sign filler `cotangent` of the input's shape; loss = sum(output * cotangent), train mode.

    output, grad_input                    f64 [8, 6, 5, 5]  train mode
    running_mean, running_var             f64 [6]           after that forward
    grad_weight, grad_bias                f64 [6]
    eval_output                           f64 [8, 6, 5, 5]  eval mode after it

Metadata: `splits`, `momentum`, `eps`.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SPLITS, MOMENTUM, EPS = 4, 0.1, 1e-5

weight = _fill.fill("bn.weight", 6).double().requires_grad_()
bias = _fill.fill("bn.bias", 6).double().requires_grad_()
x = _fill.fill("input", 8, 6, 5, 5).double().requires_grad_()
means = _fill.fill("bn.running_mean", 6).double().repeat(SPLITS)
variances = _fill.fill("bn.running_var", 6).double().repeat(SPLITS)

output = F.batch_norm(
    x.view(-1, 6 * SPLITS, 5, 5), means, variances, weight.repeat(SPLITS), bias.repeat(SPLITS), True, MOMENTUM, EPS
).view_as(x)
loss = (output * _fill.sign("cotangent", *x.shape).double()).sum()
grad_input, grad_weight, grad_bias = torch.autograd.grad(loss, [x, weight, bias])
running_mean, running_var = (t.view(SPLITS, 6).mean(0) for t in (means, variances))

# The sentence above about interleaving, checked: split s alone through a plain batch norm.
for s in range(SPLITS):
    alone = F.batch_norm(x[s::SPLITS], None, None, weight, bias, True, MOMENTUM, EPS)
    torch.testing.assert_close(output[s::SPLITS], alone)

tensors = {
    "output": output,
    "grad_input": grad_input,
    "grad_weight": grad_weight,
    "grad_bias": grad_bias,
    "running_mean": running_mean,
    "running_var": running_var,
    "eval_output": F.batch_norm(x, running_mean, running_var, weight, bias, False, MOMENTUM, EPS),
}
_fill.write(__file__, tensors, splits=SPLITS, momentum=MOMENTUM, eps=EPS)
