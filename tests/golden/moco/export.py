"""Three MoCo steps with a linear encoder, in the order of facebookresearch/moco `moco/builder.py`, all float64.

Per step s: q = normalise(encoder_q(x_q{s})); encoder_k <- m encoder_k + (1 - m) encoder_q; k = normalise(encoder_k(x_k{s}));
loss = mean cross-entropy of [q.k, q.queue] / T against class 0; the keys replace the queue's columns from the pointer on;
then loss.backward() and p -= lr * grad on encoder_q. So the loss meets the queue of before the step, and the momentum
update the encoder_q of before it.

Rebuild (`_fill.py`): encoder_q is `encoder_q.weight` [16, 12] and `encoder_q.bias` [16], encoder_k starts as its copy;
inputs [8, 12] are named `x_q{s}`, `x_k{s}`; the queue [16, K] is sign filler `queue`, columns normalised (in float64).

Two variants, `K32` (K = 32: pointer 8, 16, 24) and `K20` (K = 20, the third batch wraps: pointer 8, 16, 4; builder.py
itself refuses such a K, here the columns are (pointer + i) mod K):

    {v}.loss         f64 [3]
    {v}.grad_weight  f64 [3, 16, 12]  gradient of encoder_q.weight
    {v}.grad_bias    f64 [3, 16]
    {v}.key_weight   f64 [3, 16, 12]  encoder_k.weight after the step (likewise key_bias [3, 16])
    {v}.queue        f64 [3, 16, K]   after the step
    {v}.pointer      i64 [3]          after the step

Metadata: `temperature`, `momentum`, `lr`, `batch`.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402

T, M, LR, BATCH, STEPS = 0.2, 0.99, 0.1, 8, 3


def run(size):
    weight = _fill.fill("encoder_q.weight", 16, 12).double().requires_grad_()
    bias = _fill.fill("encoder_q.bias", 16).double().requires_grad_()
    key_weight, key_bias = weight.detach().clone(), bias.detach().clone()
    queue = F.normalize(_fill.sign("queue", 16, size).double(), dim=0)
    pointer, history = 0, []
    for step in range(STEPS):
        q = F.normalize(F.linear(_fill.fill(f"x_q{step}", BATCH, 12).double(), weight, bias), dim=1)
        with torch.no_grad():
            key_weight = M * key_weight + (1 - M) * weight
            key_bias = M * key_bias + (1 - M) * bias
            k = F.normalize(F.linear(_fill.fill(f"x_k{step}", BATCH, 12).double(), key_weight, key_bias), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue], dim=1) / T
        loss = F.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.int64))
        queue = queue.clone()
        queue[:, (pointer + torch.arange(BATCH)) % size] = k.T
        pointer = (pointer + BATCH) % size
        grad_weight, grad_bias = torch.autograd.grad(loss, [weight, bias])
        with torch.no_grad():
            weight -= LR * grad_weight
            bias -= LR * grad_bias
        history.append(
            {
                "loss": loss,
                "grad_weight": grad_weight,
                "grad_bias": grad_bias,
                "key_weight": key_weight,
                "key_bias": key_bias,
                "queue": queue,
                "pointer": torch.tensor(pointer),
            }
        )
    return {f"K{size}.{name}": torch.stack([h[name] for h in history]) for name in history[0]}


_fill.write(__file__, run(32) | run(20), temperature=T, momentum=M, lr=LR, batch=BATCH)
