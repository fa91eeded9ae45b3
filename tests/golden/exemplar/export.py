"""The losses of MoCo v2 and of Exemplar (Zhao et al. 2021) on two batches in a row, all float64. See `_pretraining.py`.

Query encoder: backbone and projector 32-24-16 (Linear, ReLU, Linear). The key encoder's tensors are filled under `key.`; it
stays as it is between the two batches, and its batch norm sees the whole batch. Queue: 12 unit rows, sign filler `queue` [12,
16], rounded to float32, with labels `arange(12) % 7 - 1` (-1: never written). Queries are `view0_{b}`, keys `view1_{b}`. After
each batch the keys overwrite the queue as a ring: rows 0 to 7, then 8 to 11 and 0 to 3, and their labels likewise. With
`exemplar`, keys of the query's own label are no negatives.

Variants v: `moco`, `exemplar`; batches b: 0, 1.

    {v}.loss     f64 [2]
    {v}.grads    f64 [n, 9]   probes of the gradients of the second batch
    {v}.queue    f64 [12, 16] after both batches
    labels       i64 [12]     of the queue after both batches

Metadata: `options` (the method's settings as flags name them).
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _pretraining as P  # noqa: E402

OPTIONS = {
    "epochs": 1,
    "batch-size": P.BATCH,
    "projector-hidden": 24,
    "projection-dim": 16,
    "queue-size": 12,
    "temperature": 0.2,
    "bn-splits": 1,
}
SIZE = OPTIONS["queue-size"]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.projector = P.Backbone(), P.moco_mlp(24, 16)

    def forward(self, x):
        return self.projector(P.pool(self.backbone(x)))


tensors = {}
for variant in ("moco", "exemplar"):
    query, key = P.filled(Encoder()), P.filled(Encoder(), "key.")
    queue, queue_labels, losses = P.queue(SIZE, 16), torch.arange(SIZE) % 7 - 1, []
    for batch in range(2):
        labels = (P.LABELS + batch) % P.CLASSES
        x0, x1 = P.views(batch)
        with torch.no_grad():
            k = F.normalize(key(x1), dim=1)
        excluded = labels[:, None] == queue_labels[None, :] if variant == "exemplar" else None
        loss = P.info_nce(query(x0), k, queue, OPTIONS["temperature"], excluded)
        query.zero_grad()
        loss.backward()
        rows = (batch * P.BATCH + torch.arange(P.BATCH)) % SIZE
        queue[rows], queue_labels[rows] = k, labels
        losses.append(loss)
    tensors |= {f"{variant}.loss": torch.stack(losses), f"{variant}.grads": P.gradients(query)}
    tensors |= {f"{variant}.queue": queue, "labels": queue_labels}
    print(variant, tensors[f"{variant}.loss"].tolist(), queue_labels.tolist())
_fill.write(__file__, tensors, options=OPTIONS)
