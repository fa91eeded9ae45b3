"""Training in PyTorch as its users write it, beside `camtrast pretrain`: data included, seconds of each epoch.

    python benches/peers/train.py --method moco --data train.safetensors --batch-size 64 --threads 1
    python benches/peers/train.py --method simsiam --layout channels-last --precision bf16 --device cuda ...

torchvision's ResNet and transforms (v2, on uint8 tensors), SGD (foreach), a DataLoader with `--workers` processes. Supervised: random
crop and flip. MoCo v2: two views, key encoder by EMA, shuffled keys, queue. SimSiam: two views, both directions. Networks and losses
are those of `operations.py` beside this file. Prints one JSON line: seconds of every epoch and images per second of the last.
"""

import argparse
import copy
import json
import time

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms import v2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def transform(method, size):
    final = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    if method == "supervised":
        return v2.Compose([v2.RandomResizedCrop(size, scale=(0.2, 1), antialias=True), v2.RandomHorizontalFlip(), *final])
    return v2.Compose([
        v2.RandomResizedCrop(size, scale=(0.2, 1), antialias=True),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=0.5),
        v2.RandomHorizontalFlip(),
        *final,
    ])


class Pack(torch.utils.data.Dataset):
    """Images of a pack, [size, size, 3] bytes each; `views` augmented copies and the label."""

    def __init__(self, path, views, change):
        pack = load_file(path)
        self.pixels, self.labels = pack["pixels"], pack["labels"].long()
        self.views, self.change = views, change

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        image = self.pixels[index].permute(2, 0, 1)
        return [self.change(image) for _ in range(self.views)], self.labels[index]


def backbone(arch, width):
    block, layers = {
        "resnet18": (torchvision.models.resnet.BasicBlock, [2, 2, 2, 2]),
        "resnet50": (torchvision.models.resnet.Bottleneck, [3, 4, 6, 3]),
    }[arch]
    net = torchvision.models.ResNet(block, layers)
    if width != 64:
        net.inplanes = width
        net.conv1, net.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        for i, stride in enumerate([1, 2, 2, 2]):
            setattr(net, f"layer{i + 1}", net._make_layer(block, width << i, layers[i], stride=stride))
    net.fc = nn.Identity()
    return net, width * 8 * block.expansion


class Supervised(nn.Module):
    views = 1

    def __init__(self, arch, width, classes):
        super().__init__()
        self.net, features = backbone(arch, width)
        self.head = nn.Linear(features, classes)

    def forward(self, views, labels):
        return F.cross_entropy(self.head(self.net(views[0])).float(), labels)


class MoCo(nn.Module):
    views = 2

    def __init__(self, arch, width, _classes, queue=4096):
        super().__init__()
        net, features = backbone(arch, width)
        self.query = nn.Sequential(net, nn.Linear(features, features), nn.ReLU(), nn.Linear(features, 128))
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(queue, 128), dim=1))
        self.pointer = 0

    def forward(self, views, _labels):
        q = F.normalize(self.query(views[0]).float(), dim=1)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.key.parameters()), list(self.query.parameters()), 0.001)
            order = torch.randperm(len(q), device=q.device)
            k = F.normalize(self.key(views[1][order]).float(), dim=1)[order.argsort()]
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.clone().T], 1) / 0.2
        self.queue[self.pointer : self.pointer + len(k)] = k
        self.pointer = (self.pointer + len(k)) % (len(self.queue) - len(k) + 1)
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


class SimSiam(nn.Module):
    views = 2

    def __init__(self, arch, width, _classes):
        super().__init__()
        net, features = backbone(arch, width)
        hidden = [nn.Linear(features, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()]
        second = [nn.Linear(features, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()]
        last = [nn.Linear(features, 2048, bias=False), nn.BatchNorm1d(2048, affine=False)]
        self.encoder = nn.Sequential(net, *hidden, *second, *last)
        self.predictor = nn.Sequential(
            nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 2048)
        )

    def forward(self, views, _labels):
        z = [self.encoder(x) for x in views]
        p = [self.predictor(x) for x in z]
        pairs = [(p[0], z[1]), (p[1], z[0])]
        return -sum(F.cosine_similarity(a.float(), b.detach().float()).mean() for a, b in pairs) / 2


METHODS = {"supervised": Supervised, "moco": MoCo, "simsiam": SimSiam}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--data", required=True, help="pack of `camtrast data prepare`")
    parser.add_argument("--arch", choices=["resnet18", "resnet50"], default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, help="only this many images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="contiguous")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    layout = torch.channels_last if args.layout == "channels-last" else torch.contiguous_format
    method = METHODS[args.method]
    size = load_file(args.data)["pixels"].shape[1]
    data = Pack(args.data, method.views, transform(args.method, size))
    network = method(args.arch, args.width, int(data.labels.max()) + 1).to(device, memory_format=layout)
    if args.images:
        data = torch.utils.data.Subset(data, range(args.images))
    loader = torch.utils.data.DataLoader(
        data, args.batch_size, shuffle=True, drop_last=True, num_workers=args.workers,
        persistent_workers=args.workers > 0, pin_memory=device.type == "cuda")
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], 0.03, momentum=0.9, weight_decay=1e-4)
    seconds = []
    for _ in range(args.epochs):
        start = time.perf_counter()
        for views, labels in loader:
            views = [x.to(device, memory_format=layout, non_blocking=True) for x in views]
            labels = labels.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
                loss = network(views, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    images = len(loader) * args.batch_size
    print(json.dumps({"epoch_seconds": seconds, "images_per_second": images / seconds[-1]}))


if __name__ == "__main__":
    main()
