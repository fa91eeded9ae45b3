"""The `resnet18` and `resnet50` cases: see their `export.py` for what is stored."""

import copy

import torch
import torchvision

import _fill


def stages(model, x):
    """The outputs of the backbone's stages on `x`, by name, and the pooled features [N, D]."""
    named = {}
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    named["maxpool"] = x
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = named[name] = getattr(model, name)(x)
    return named, model.avgpool(x).flatten(1)


def shift_biases(model, shift):
    """Adds `shift[part]` to the biases of `layerI.J.part`; convolutions have none, so batch norms only."""
    for name, p in model.named_parameters():
        if name.startswith("layer") and name.endswith(".bias"):
            p.data += shift[name.split(".")[2]]


def run(model, x, shift):
    """Everything a case holds, as `{group: {name: tensor}}`, for a model and an input of one precision."""
    out = {}
    with torch.no_grad():
        out["eval.stages"], features = stages(model.eval(), x[:2])
    out["eval.features"] = {"features": features}
    shift_biases(model, shift)
    _, features = stages(model.train(), x)
    loss = (features * _fill.sign("cotangent", *features.shape).to(features.dtype)).sum()
    loss.backward()
    out["train.loss"] = {"loss": loss.detach()}
    out["train.grads"] = {n: p.grad for n, p in model.named_parameters() if not n.startswith("fc.")}
    out["train.running"] = {n: b for n, b in model.named_buffers() if "running" in n}
    return out


def export(script, arch, shift):
    model = _fill.fill_module(getattr(torchvision.models, arch)())
    x = _fill.fill("input", 4, 3, 64, 64)
    truth = run(copy.deepcopy(model).double(), x.double(), shift)
    single = run(model, x, shift)

    tensors, metadata, worst = {}, {}, {}
    for group in ("eval.stages", "train.grads", "train.running"):
        tensors[group] = _fill.probes(truth[group])
        difference = (_fill.probes(single[group]) - tensors[group]).norm(dim=1) / tensors[group].norm(dim=1)
        tensors[f"{group}.fp32_error"] = difference.float()
        metadata[group] = list(truth[group])
        worst[group] = float(f"{difference.max():.1e}")
    for group, name in (("eval.features", "features"), ("train.loss", "loss")):
        value = truth[group][name]
        worst[group] = float(f"{(single[group][name].double() - value).norm() / value.norm():.1e}")
    tensors["eval.features"] = truth["eval.features"]["features"].float()
    tensors["train.loss"] = truth["train.loss"]["loss"].reshape(1)
    _fill.write(script, tensors, arch=arch, bias_shift=shift, fp32_error=worst, **metadata)
    print(worst)
