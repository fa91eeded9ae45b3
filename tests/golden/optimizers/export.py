"""Three steps of SGD, Adam, AdamW and LARS with given gradients and a learning rate that changes each step.

Rebuild (`_fill.py`): parameters `conv.weight` [4, 3, 3, 3], `conv.bias` [4], `fc.weight` [5, 4] by their names; the
gradient of parameter p at step s = 0, 1, 2 is the sign filler named `grad{s}.{p}`. All arithmetic in float64.

    {case}.{p}       f64 [3, *shape of p]   the parameter after each step
    {case}.lr        f64 [3]                the learning rate of each step

Cases (metadata `cases`, JSON list; metadata `settings`, JSON {case: settings}): `sgd`, `sgd_nesterov`, `adam`, `adamw` are
torch.optim's. `adam` adds the decay to the gradient, `adamw` decouples it.

`lars` is the variant of MoCo v3 (`moco/optimizer.py`), Barlow Twins and BYOL's own JAX code, written out below:
decay joins the gradient first, the ratio is trust * |p| / |g + wd p|, the momentum buffer accumulates the scaled update
*before* the learning rate, and 1-D parameters get neither decay nor ratio, only momentum. solo-learn, pl_bolts and
apex's LARC differ: their denominator is |g| + wd |p| + eps, with an optional clip by the learning rate.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (5, 4)}
SETTINGS = {
    "sgd": {"lr": [0.1, 0.05, 0.02], "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False},
    "sgd_nesterov": {"lr": [0.1, 0.05, 0.02], "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
    "adam": {"lr": [1e-2, 5e-3, 2e-3], "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 5e-4},
    "adamw": {"lr": [1e-2, 5e-3, 2e-3], "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05},
    "lars": {"lr": [4.8, 2.4, 1.2], "momentum": 0.9, "weight_decay": 0.05, "trust": 0.001},
}


class Lars:
    def __init__(self, params, lr, momentum, weight_decay, trust):
        self.param_groups = [{"params": params, "lr": lr}]
        self.momentum, self.weight_decay, self.trust = momentum, weight_decay, trust
        self.buffers = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self):
        group = self.param_groups[0]
        for p, buffer in zip(group["params"], self.buffers):
            update = p.grad.clone()
            if p.ndim > 1:
                update += self.weight_decay * p
                if p.norm() > 0 and update.norm() > 0:
                    update *= self.trust * p.norm() / update.norm()
            buffer.mul_(self.momentum).add_(update)
            p -= group["lr"] * buffer


OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "sgd_nesterov": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lars": Lars,
}

tensors = {}
for case, settings in SETTINGS.items():
    params = {name: _fill.fill(name, *shape).double().requires_grad_() for name, shape in SHAPES.items()}
    history = {name: [] for name in params}
    optimizer = OPTIMIZERS[case](list(params.values()), **settings | {"lr": settings["lr"][0]})
    for step, lr in enumerate(settings["lr"]):
        optimizer.param_groups[0]["lr"] = lr
        for name, p in params.items():
            p.grad = _fill.sign(f"grad{step}.{name}", *p.shape).double()
        optimizer.step()
        for name, p in params.items():
            history[name].append(p.detach().clone())
    tensors |= {f"{case}.{name}": torch.stack(values) for name, values in history.items()}
    tensors[f"{case}.lr"] = torch.tensor(settings["lr"], dtype=torch.float64)

_fill.write(__file__, tensors, cases=list(SETTINGS), settings=SETTINGS)
