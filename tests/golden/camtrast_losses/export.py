"""The objective of CAMtrast (Sun et al. 2022, eq. 3 to 6) and of its ablations, all float64. See `_pretraining.py`.

x = `view0_0`, A = backbone(x), logits = fc(pool(A)) with 5 classes, M the class activation map of the class with the highest
logit (or of the label), min-max normalised per image, then stretched bilinearly to 32 x 32; x' = (1 - M) x, detached. With the
CAM off, x' is `view1_0`. The terms, added up:

    CE(x)      always
    CE(x')     with the CAM, after the warm-up
    moco       InfoNCE at T = 0.07 of projector(pool(backbone(x))), 32-24-16 with ReLU, against the key of x' and 12 rows; key
               encoder and queue as in the case `exemplar`
    simsiam    (D(p, stopgrad z') + D(p', stopgrad z)) / 2, heads as in the case `simsiam`

Variants v (metadata `variants`, JSON {v: {"options": settings as flags name them, "epoch": epoch of the step}}):

    {v}.parts   f64 [k]      the terms in the order above; the loss is their sum
    {v}.grads   f64 [n, 9]   probes of the gradients of all parameters that have one

    moco_warmup has epoch 1 of a warm-up of 2: CE(x) alone, as in `neither`.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _fill  # noqa: E402
import _pretraining as P  # noqa: E402

TRAINING = {"epochs": 4, "batch-size": P.BATCH}
MOCO = {"contrast": "moco", "projector-hidden": 24, "projection-dim": 16, "queue-size": 12, "temperature": 0.07, "bn-splits": 1}
SIMSIAM = {"contrast": "simsiam", "projector-hidden": 24, "projection-dim": 16, "predictor-hidden": 8}
NONE = {"contrast": "none"}
CAM = {"cam": "on", "cam-warmup-epochs": 2, "cam-class": "predicted"}
OFF = {"cam": "off"}
VARIANTS = {
    "moco": {"options": MOCO | CAM, "epoch": 2},
    "moco_warmup": {"options": MOCO | CAM, "epoch": 1},
    "moco_without_cam": {"options": MOCO | OFF, "epoch": 0},
    "simsiam": {"options": SIMSIAM | CAM, "epoch": 3},
    "simsiam_without_cam": {"options": SIMSIAM | OFF, "epoch": 0},
    "without_contrast": {"options": NONE | CAM, "epoch": 2},
    "label_cam": {"options": NONE | CAM | {"cam-class": "label"}, "epoch": 2},
    "neither": {"options": NONE | OFF, "epoch": 2},
}


class Model(nn.Module):
    def __init__(self, contrast):
        super().__init__()
        self.backbone, self.fc = P.Backbone(), nn.Linear(P.FEATURES, P.CLASSES)
        if contrast == "moco":
            self.projector = P.moco_mlp(24, 16)
        if contrast == "simsiam":
            self.projector = P.norm_mlp(P.FEATURES, 24, 24, 16, norm=True)
            self.predictor = P.norm_mlp(16, 8, 16, norm=False)


class Key(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.projector = P.Backbone(), P.moco_mlp(24, 16)


def suppress(x, features, weight, classes):
    cams = []
    for image, image_features, label in zip(x, features, classes):
        cam = (weight[label][:, None, None] * image_features).sum(0)
        cam = (cam - cam.min()) / (cam.max() - cam.min())
        cams.append(F.interpolate(cam[None, None], size=image.shape[1:], mode="bilinear", align_corners=False)[0])
    return (1 - torch.stack(cams)) * x


def parts_of(model, options, epoch):
    cam = options["cam"] == "on" and epoch >= options["cam-warmup-epochs"]
    x, x1 = P.views(0)
    features = model.backbone(x)
    logits = model.fc(P.pool(features))
    parts = [F.cross_entropy(logits, P.LABELS)]
    if options["cam"] == "on" and not cam:
        return parts
    if cam:
        top = logits.topk(2).values
        assert (top[:, 0] - top[:, 1]).min() > 1e-3 and logits.argmax(1).ne(P.LABELS).any()
        classes = P.LABELS if options["cam-class"] == "label" else logits.argmax(1)
        x1 = suppress(x, features, model.fc.weight, classes).detach()
    f0, f1 = P.pool(features), None
    if cam or options["contrast"] == "simsiam":
        f1 = P.pool(model.backbone(x1))
    if cam:
        parts.append(F.cross_entropy(model.fc(f1), P.LABELS))
    if options["contrast"] == "moco":
        key = P.filled(Key(), "key.")
        with torch.no_grad():
            k = key.projector(P.pool(key.backbone(x1)))
        parts.append(P.info_nce(model.projector(f0), k, P.queue(options["queue-size"], 16), options["temperature"]))
    if options["contrast"] == "simsiam":
        z0, z1 = model.projector(f0), model.projector(f1)
        cosine = [F.cosine_similarity(model.predictor(a), b.detach()).mean() for a, b in ((z0, z1), (z1, z0))]
        parts.append(-sum(cosine) / 2)
    return parts


tensors = {}
for name, variant in VARIANTS.items():
    variant["options"] = TRAINING | variant["options"]
    model = P.filled(Model(variant["options"]["contrast"]))
    parts = parts_of(model, **variant)
    sum(parts).backward()
    tensors |= {f"{name}.parts": torch.stack(parts), f"{name}.grads": P.gradients(model)}
    print(name, tensors[f"{name}.parts"].tolist())
_fill.write(__file__, tensors, variants=VARIANTS)
