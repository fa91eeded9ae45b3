"""InfoNCE of unit vectors against a queue, and Exemplar's form of it, all float64.

logits = [q.k, q.queue] / T, loss = mean cross-entropy against class 0; `grad_q` is the gradient in the unit vectors q
themselves (not through the normalisation), keys and queue being constants.

    q, k        f64 [8, 16]   unit rows
    queue       f64 [32, 16]  unit rows (the transpose of MoCo's [dim, K] buffer)
    labels      i64 [8]       of the queries
    queue_labels i64 [32]     of the queue; -1 marks an entry never written, which is a negative for everybody
    {v}.logits  f64 [8, 33], {v}.loss f64 [1], {v}.grad_q f64 [8, 16]

Variants v (metadata `temperature`, JSON {variant: T}): `T0.07`, `T0.2`; and `exemplar` (T = 0.2), where queue entries
with the query's label are no negatives: their logits are -inf.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

TEMPERATURE = {"T0.07": 0.07, "T0.2": 0.2, "exemplar": 0.2}

q, k = (F.normalize(_fill.sign(name, 8, 16).double(), dim=1) for name in "qk")
queue = F.normalize(_fill.sign("queue", 32, 16).double(), dim=1)
labels = torch.arange(8) % 5
queue_labels = torch.arange(32) * 3 % 7 - 1

tensors = {"q": q, "k": k, "queue": queue, "labels": labels, "queue_labels": queue_labels}
for variant, temperature in TEMPERATURE.items():
    query = q.clone().requires_grad_()
    negatives = query @ queue.T
    if variant == "exemplar":
        negatives = negatives.masked_fill(labels[:, None] == queue_labels[None, :], -torch.inf)
    logits = torch.cat([(query * k).sum(1, keepdim=True), negatives], dim=1) / temperature
    loss = F.cross_entropy(logits, torch.zeros(8, dtype=torch.int64))
    (grad,) = torch.autograd.grad(loss, query)
    tensors |= {f"{variant}.logits": logits, f"{variant}.loss": loss.reshape(1), f"{variant}.grad_q": grad}

assert all(t.isfinite().all() for name, t in tensors.items() if name != "exemplar.logits")
_fill.write(__file__, tensors, temperature=TEMPERATURE)
