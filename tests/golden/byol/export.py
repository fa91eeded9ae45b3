"""Three BYOL steps (Grill et al. 2020, section 3), all float64. See `_pretraining.py`.

Projector 32-24-16 and predictor 16-24-16 with batch norm within. The target network's tensors are filled under `target.`, so
that it differs from the online one from the start; it sees batches in train mode. Loss: mean of |q0/|q0| - z1/|z1||^2 +
|q1/|q1| - z0/|z0||^2, q online predictions and z target projections. Then the optimiser's step, then
target <- tau target + (1 - tau) online for parameters (running statistics stay each network's own), with
tau = 1 - (1 - tau_0) (cos(pi step / 3) + 1) / 2 and learning rate lr (1 + cos(pi step / 3)) / 2.

Variants v: `sgd`; `lars` (You et al. 2017 as BYOL uses it: no decay and no adaptation for one-dimensional parameters, else
g <- g + decay w, g <- 0.001 |w| / |g| g; then momentum).

    {v}.loss     f64 [3]
    {v}.tau      f64 [3]
    sgd.grads0, sgd.grads2  f64 [n, 9]  probes of all gradients of the first and last step
    {v}.state    f64 [m, 9]    probes of the online parameters and running statistics after the three steps
    {v}.target   f64 [k, 9]    of the target's (sgd only)

The gradient of the projector's last bias is zero but for rounding: the predictor's batch norm takes out any shift. Its row is
set to zero. Metadata: `options` (JSON {variant: settings as flags name them}).
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _pretraining as P  # noqa: E402

COMMON = {
    "epochs": 3,
    "batch-size": P.BATCH,
    "momentum": 0.9,
    "projector-hidden": 24,
    "projection-dim": 16,
    "predictor-hidden": 24,
    "key-momentum": 0.6,
}
OPTIONS = {
    "sgd": COMMON | {"optimizer": "sgd", "lr": 0.1, "weight-decay": 0.01},
    "lars": COMMON | {"optimizer": "lars", "lr": 0.5, "weight-decay": 0.01, "warmup-epochs": 0},
}
STEPS, ZERO = 3, "projector.3.bias"


class Online(nn.Module):
    def __init__(self, predictor):
        super().__init__()
        self.backbone = P.Backbone()
        self.projector = P.norm_mlp(P.FEATURES, 24, 16, norm=False)
        if predictor:
            self.predictor = P.norm_mlp(16, 24, 16, norm=False)

    def forward(self, x):
        return self.projector(P.pool(self.backbone(x)))


class Lars:
    def __init__(self, params, momentum, weight_decay):
        self.params, self.momentum, self.weight_decay = params, momentum, weight_decay
        self.buffers = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, lr):
        for p, v in zip(self.params, self.buffers):
            g = p.grad
            if p.dim() > 1:
                g = g + self.weight_decay * p
                g = 0.001 * p.norm() / g.norm() * g
            v.copy_(self.momentum * v + g)
            p -= lr * v


class Sgd:
    def __init__(self, params, momentum, weight_decay):
        self.inner = torch.optim.SGD(params, 1.0, momentum=momentum, weight_decay=weight_decay)

    def step(self, lr):
        self.inner.param_groups[0]["lr"] = lr
        self.inner.step()


def regression(q, z):
    return (F.normalize(q, dim=1) - F.normalize(z, dim=1)).square().sum(1)


tensors = {}
for variant, options in OPTIONS.items():
    online, target = P.filled(Online(True)), P.filled(Online(False), "target.")
    kind = Sgd if options["optimizer"] == "sgd" else Lars
    optimizer = kind(list(online.parameters()), options["momentum"], options["weight-decay"])
    losses, taus = [], []
    for step in range(STEPS):
        fall = (math.cos(math.pi * step / STEPS) + 1) / 2
        x0, x1 = P.views(step)
        q0, q1 = (online.predictor(online(x)) for x in (x0, x1))
        with torch.no_grad():
            z0, z1 = target(x0), target(x1)
        loss = (regression(q0, z1) + regression(q1, z0)).mean()
        online.zero_grad()
        loss.backward()
        rounding = dict(online.named_parameters())[ZERO].grad
        assert rounding.norm() < 1e-12
        rounding.zero_()
        if variant == "sgd" and step != 1:
            tensors[f"{variant}.grads{step}"] = P.gradients(online)
        optimizer.step(options["lr"] * fall)
        tau = 1 - (1 - options["key-momentum"]) * fall
        followed = dict(online.named_parameters())
        with torch.no_grad():
            for name, xi in target.named_parameters():
                xi.copy_(tau * xi + (1 - tau) * followed[name])
        losses.append(loss)
        taus.append(tau)
    tensors |= {f"{variant}.loss": torch.stack(losses), f"{variant}.tau": torch.tensor(taus, dtype=torch.float64)}
    tensors[f"{variant}.state"] = P.state(online)
    if variant == "sgd":
        tensors[f"{variant}.target"] = P.state(target)
    print(variant, "losses", tensors[f"{variant}.loss"].tolist(), "tau", taus)
_fill.write(__file__, tensors, options=OPTIONS)
