"""MoCo v2 written with torchvision alone, trained on the images that a run of camtrast trained on.

    python benches/peers/moco_twin.py --run moco-0 --data train.safetensors --out twin-0.safetensors
    camtrast checkpoint import twin-0.safetensors --out twin-0
    camtrast fewshot eval --checkpoint twin-0/backbone.safetensors --data test.safetensors

It reads the run's `config.toml` (seed, width, epochs, batch, rate, queue, temperature, momentum, parts of batch norm) and
`subset.json` (which images), and then does what He et al.'s `main_moco.py` and the CIFAR notebook beside it do: PIL
augmentation, ResNet with an MLP head, keys in shuffled order, batch norm in parts, EMA before the key's forward pass, ring
queue, SGD with weight decay on everything. Only the random numbers differ. Prints one line an epoch: loss and the share of
queries that find their key.

`benches/peers/moco.sh` does this for several seeds and prints both means.
"""

import argparse
import json
import math
import tomllib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class SplitBatchNorm(nn.BatchNorm2d):
    """Each of `parts` stretches of the batch is normalised by itself; the mean of their running statistics is kept."""

    parts = 1

    def forward(self, x):
        if not self.training or self.parts == 1:
            return super().forward(x)
        means, variances, outputs = [], [], []
        for part in x.chunk(self.parts):
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            outputs.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, self.momentum, self.eps))
            means.append(mean)
            variances.append(variance)
        self.running_mean.copy_(torch.stack(means).mean(0))
        self.running_var.copy_(torch.stack(variances).mean(0))
        return torch.cat(outputs)


class Encoder(ResNet):
    """ResNet-18 of `width` channels after the stem, with MoCo v2's projector as `fc`."""

    def __init__(self, width, hidden, outputs, parts):
        norm = type("Norm", (SplitBatchNorm,), {"parts": parts})
        super().__init__(BasicBlock, [2, 2, 2, 2], norm_layer=norm)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        for i, stride in enumerate([1, 2, 2, 2]):
            setattr(self, f"layer{i + 1}", self._make_layer(BasicBlock, width << i, 2, stride=stride))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.fc = nn.Sequential(nn.Linear(width * 8, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class GaussianBlur:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(1).uniform_(0.1, 2.0))))


def augmentation(config, size):
    return T.Compose(
        [
            T.RandomResizedCrop(size, scale=tuple(config["crop-scale"])),
            T.RandomApply([T.ColorJitter(*config["jitter"])], p=config["jitter-probability"]),
            T.RandomGrayscale(p=config["grayscale"]),
            T.RandomApply([GaussianBlur()], p=config["blur"]),
            T.RandomHorizontalFlip(p=config["flip"]),
            T.ToTensor(),
            T.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )


def train(config, images):
    torch.manual_seed(config["seed"])
    width = int(config["arch"].partition("-w")[2] or 64)
    parts = config.get("query-bn-splits", config["bn-splits"]), config["bn-splits"]
    query, key = (Encoder(width, config["projector-hidden"], config["projection-dim"], p) for p in parts)
    key.load_state_dict(query.state_dict())
    key.requires_grad_(False)
    for network in query, key:
        network.train().to(memory_format=torch.channels_last)
    queue = F.normalize(torch.randn(config["queue-size"], config["projection-dim"]), dim=1)
    pointer = 0

    batch, steps = config["batch-size"], len(images) // config["batch-size"]
    optimizer = torch.optim.SGD(
        query.parameters(), config["lr"], momentum=config["momentum"], weight_decay=config["weight-decay"]
    )
    view = augmentation(config, images.shape[1])
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config["precision"] == "bf16")
    for epoch in range(config["epochs"]):
        measures = []
        for step, rows in enumerate(torch.randperm(len(images))[: steps * batch].view(steps, batch).tolist()):
            passed = epoch * steps + step
            if config["schedule"] == "cosine":
                rate = 0.5 * (1 + math.cos(math.pi * passed / (config["epochs"] * steps)))
            warmup = config["warmup-epochs"] * steps
            optimizer.param_groups[0]["lr"] = config["lr"] * rate * min(1, (passed + 1) / max(warmup, 1))
            pictures = [Image.fromarray(images[row]) for row in rows]
            x_q, x_k = (
                torch.stack([view(picture) for picture in pictures]).to(memory_format=torch.channels_last)
                for _ in range(2)
            )
            with autocast:
                q = query(x_q)
            q = F.normalize(q.float(), dim=1)
            with torch.no_grad():
                if passed:
                    for k, own in zip(key.parameters(), query.parameters()):
                        k.lerp_(own, 1 - config["key-momentum"])
                order = torch.randperm(batch)
                with autocast:
                    k = key(x_k[order])
                k = F.normalize(k.float(), dim=1)[order.argsort()]
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / config["temperature"]
            loss = F.cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            queue[(pointer + torch.arange(batch)) % len(queue)] = k
            pointer = (pointer + batch) % len(queue)
            measures.append((loss.item(), (logits.argmax(1) == 0).float().mean().item()))
        loss, found = np.mean(measures, 0)
        print(f"epoch {epoch + 1}/{config['epochs']} loss {loss:.4f} found {found:.4f}", flush=True)
    return query


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished `camtrast pretrain --method moco`")
    parser.add_argument("--data", type=Path, required=True, help="its pack")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file of the twin's backbone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = tomllib.loads((args.run / "config.toml").read_text())
    rows = json.loads((args.run / "subset.json").read_text())["rows"]
    query = train(config, load_file(args.data)["pixels"].numpy()[rows])
    state = {name: t.contiguous() for name, t in query.state_dict().items() if not name.startswith("fc.")}
    save_file(state, args.out)


if __name__ == "__main__":
    main()
