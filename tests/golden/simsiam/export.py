"""SimSiam as in facebookresearch/simsiam (`simsiam/builder.py`, `main_simsiam.py`), all float64. See `_pretraining.py`.

The loss alone, D(p, z) = -mean cos(p, z), for p, z [8, 16], input fillers `p` and `z`:

    cosine.loss    f64 [1]
    cosine.grad_p  f64 [8, 16], the same whether or not gradient flows through z
    cosine.grad_z  f64 [8, 16], when it does

Three SGD steps. Projector 32-24-24-16 with batch norm after each layer, the last without affine; predictor 16-8-16 with batch
norm within. z = projector(pool(backbone(view))), p = predictor(z), loss = (D(p0, z1.detach()) + D(p1, z0.detach())) / 2. The
learning rate is lr (1 + cos(pi step / 3)) / 2, of the predictor lr throughout (`--fix-pred-lr`).

    loss           f64 [3]
    output_std     f64 [3]        standard deviation over the batch of z0 / |z0|, averaged over channels (the paper's figure 2)
    grads{step}    f64 [n, 9]     probes of all gradients
    state          f64 [m, 9]     probes of parameters and running statistics after the three steps
    attached.grads f64 [n, 9]     gradients of the first step without stop-gradient

Metadata: `options` (the method's settings, as flags name them).
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

OPTIONS = {
    "epochs": 3,
    "batch-size": P.BATCH,
    "lr": 0.1,
    "momentum": 0.9,
    "weight-decay": 0.01,
    "projector-hidden": 24,
    "projection-dim": 16,
    "predictor-hidden": 8,
}
STEPS = OPTIONS["epochs"]


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = P.Backbone()
        self.projector = P.norm_mlp(P.FEATURES, 24, 24, 16, norm=True)
        self.predictor = P.norm_mlp(16, 8, 16, norm=False)

    def forward(self, x0, x1):
        z0, z1 = (self.projector(P.pool(self.backbone(x))) for x in (x0, x1))
        return self.predictor(z0), self.predictor(z1), z0, z1


def d(p, z):
    return -F.cosine_similarity(p, z, dim=1).mean()


def loss_of(model, step, stop_gradient):
    p0, p1, z0, z1 = model(*P.views(step))
    t0, t1 = (z0.detach(), z1.detach()) if stop_gradient else (z0, z1)
    return (d(p0, t1) + d(p1, t0)) * 0.5, F.normalize(z0.detach(), dim=1).std(0).mean()


p, z = (_fill.fill(name, 8, 16).double().requires_grad_() for name in "pz")
loss = d(p, z)
loss.backward()
tensors = {"cosine.loss": loss.reshape(1), "cosine.grad_p": p.grad, "cosine.grad_z": z.grad}

model = P.filled(SimSiam())
rest = [t for name, t in model.named_parameters() if not name.startswith("predictor.")]
optimizer = torch.optim.SGD(
    [{"params": rest, "fixed": False}, {"params": list(model.predictor.parameters()), "fixed": True}],
    OPTIONS["lr"],
    momentum=OPTIONS["momentum"],
    weight_decay=OPTIONS["weight-decay"],
)
losses, spreads = [], []
for step in range(STEPS):
    for group in optimizer.param_groups:
        group["lr"] = OPTIONS["lr"] * (1 if group["fixed"] else 0.5 * (1 + math.cos(math.pi * step / STEPS)))
    optimizer.zero_grad()
    loss, spread = loss_of(model, step, stop_gradient=True)
    loss.backward()
    tensors[f"grads{step}"] = P.gradients(model)
    optimizer.step()
    losses.append(loss)
    spreads.append(spread)
tensors |= {"loss": torch.stack(losses), "output_std": torch.stack(spreads), "state": P.state(model)}

model = P.filled(SimSiam())
loss_of(model, 0, stop_gradient=False)[0].backward()
tensors["attached.grads"] = P.gradients(model)

print("losses", tensors["loss"].tolist())
_fill.write(__file__, tensors, options=OPTIONS)
