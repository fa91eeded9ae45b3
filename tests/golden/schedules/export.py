"""Learning rates (and BYOL's momentum) per epoch or step, float64, one 1-D tensor per schedule.

Entry i is the value *used in* epoch or step i, counted from 0. Metadata `parameters`, JSON {schedule: parameters}.

    multistep       [100]  torch MultiStepLR: base * gamma^(milestones <= epoch)
    exponential     [100]  torch ExponentialLR: base * gamma^epoch, as a running product
    cosine_epoch    [100]  MoCo and SimSiam: base * (1 + cos(pi epoch / epochs)) / 2, constant within an epoch
    cosine_step     [200]  the same per step: base * (1 + cos(pi step / steps)) / 2
    poly            [300]  base * (1 - step / steps)^power
    warmup          [240]  detectron2's WarmupMultiStepLR, linear: base * w * gamma^(milestones <= step), where
                           w = factor * (1 - a) + a, a = step / warmup_steps, and w = 1 from step warmup_steps on
    byol_momentum   [200]  1 - (1 - base) * (1 + cos(pi step / steps)) / 2
"""

import sys
from math import cos, pi
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

PARAMETERS = {
    "multistep": {"base": 0.05, "milestones": [60, 80], "gamma": 0.1, "epochs": 100},
    "exponential": {"base": 1e-4, "gamma": 0.95, "epochs": 100},
    "cosine_epoch": {"base": 0.03, "epochs": 100},
    "cosine_step": {"base": 0.05, "steps": 200},
    "poly": {"base": 0.01, "power": 0.9, "steps": 300},
    "warmup": {
        "base": 0.02,
        "milestones": [180, 220],
        "gamma": 0.1,
        "warmup_steps": 100,
        "factor": 1e-3,
        "steps": 240,
    },
    "byol_momentum": {"base": 0.99, "steps": 200},
}


def torch_schedule(base, epochs, make):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=base)
    scheduler = make(optimizer)
    values = []
    for _ in range(epochs):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def multistep(base, milestones, gamma, epochs):
    return torch_schedule(base, epochs, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones, gamma))


def exponential(base, gamma, epochs):
    return torch_schedule(base, epochs, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma))


def cosine_epoch(base, epochs):
    return [base * 0.5 * (1 + cos(pi * epoch / epochs)) for epoch in range(epochs)]


def cosine_step(base, steps):
    return [base * 0.5 * (1 + cos(pi * step / steps)) for step in range(steps)]


def poly(base, power, steps):
    return [base * (1 - step / steps) ** power for step in range(steps)]


def warmup(base, milestones, gamma, warmup_steps, factor, steps):
    values = []
    for step in range(steps):
        a = step / warmup_steps
        w = factor * (1 - a) + a if step < warmup_steps else 1.0
        values.append(base * w * gamma ** sum(m <= step for m in milestones))
    return values


def byol_momentum(base, steps):
    return [1 - (1 - base) * (cos(pi * step / steps) + 1) / 2 for step in range(steps)]


tensors = {name: torch.tensor(globals()[name](**p), dtype=torch.float64) for name, p in PARAMETERS.items()}
_fill.write(__file__, tensors, parameters=PARAMETERS)
