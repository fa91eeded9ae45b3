"""Operations of one training step in PyTorch, as torch.profiler sees them, and those after which the host of a GPU
waits: the peer of `cargo test --workspace --test operations -- --nocapture`, which counts the same here.

Pretraining: ResNet-18 of torchvision with a 3x3 stem (the number of channels does not matter), batches of 8 images of 16 x 16 pixels that are on the
device already (no augmentation); SGD as PyTorch users write it (foreach by default), gradients set to None.
MoCo v2 as in facebookresearch/moco's builder: one process, shuffling, no split batch norm. SimSiam as in its builder.

Detection: torchvision's fasterrcnn_resnet50_fpn, and its FasterRCNN on the stride-16 map with layer4 as the head (C4), every
layer trained with batch statistics, 2 (4) images of 160 x 128 pixels. Segmentation: torchvision's deeplabv3_resnet50 with
auxiliary loss, 2 crops. The number of channels does not change the counts. On a GPU torchvision::nms ends in masked_select: it
counts as a wait. Copies to the GPU, for which it waits as well where memory is not pinned, do not show on a CPU and are not counted.

    python benches/peers/operations.py
"""

import copy

import torch
import torch.nn.functional as F
import torchvision
from torch.profiler import ProfilerActivity, profile

WAITS = {"torchvision::nms", "aten::_local_scalar_dense", "aten::nonzero", "aten::_unique", "aten::_unique2", "aten::unique_dim",
         "aten::unique_consecutive", "aten::masked_select", "aten::equal", "aten::bincount"}
torch.set_num_threads(1)


def resnet18():
    net = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
    net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    net.maxpool = torch.nn.Identity()
    net.fc = torch.nn.Identity()
    return net


def count(name, step):
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    names = [event.name for event in profiler.events() if event.name.startswith(("aten::", "torchvision::"))]
    waits = sum(name in WAITS for name in names)
    print(f"{name}: {len(names)} operations a step, {waits} waits")


def sgd(*modules):
    params = [p for module in modules for p in module.parameters()]
    return torch.optim.SGD(params, lr=0.01, momentum=0.9, weight_decay=1e-4)


def train(optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def supervised():
    net, head = resnet18(), torch.nn.Linear(512, 2)
    x, labels, optimizer = torch.randn(8, 3, 16, 16), torch.arange(8) % 2, sgd(net, head)
    count("supervised", lambda: train(optimizer, lambda: F.cross_entropy(head(net(x)), labels)))


def moco():
    query = torch.nn.Sequential(resnet18(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 128))
    key = copy.deepcopy(query).requires_grad_(False)
    queue, pointer = F.normalize(torch.randn(128, 64), dim=0), torch.zeros(1, dtype=torch.long)
    q_images, k_images, optimizer = torch.randn(8, 3, 16, 16), torch.randn(8, 3, 16, 16), sgd(query)

    def loss():
        q = F.normalize(query(q_images), dim=1)
        with torch.no_grad():
            for p_q, p_k in zip(query.parameters(), key.parameters()):
                p_k.data = p_k.data * 0.999 + p_q.data * 0.001
            order = torch.randperm(8)
            k = F.normalize(key(k_images[order]), dim=1)[torch.argsort(order)]
        positive = torch.einsum("nc,nc->n", q, k).unsqueeze(-1)
        negative = torch.einsum("nc,ck->nk", q, queue.clone().detach())
        logits = torch.cat([positive, negative], dim=1) / 0.2
        start = int(pointer)
        queue[:, start:start + 8] = k.T
        pointer[0] = (start + 8) % 64
        return F.cross_entropy(logits, torch.zeros(8, dtype=torch.long))

    count("moco", lambda: train(optimizer, loss))


def simsiam():
    bn = lambda n, **k: torch.nn.BatchNorm1d(n, **k)
    linear = lambda a, b, **k: torch.nn.Linear(a, b, **k)
    encoder = torch.nn.Sequential(
        resnet18(), linear(512, 512, bias=False), bn(512), torch.nn.ReLU(), linear(512, 512, bias=False), bn(512),
        torch.nn.ReLU(), linear(512, 2048, bias=False), bn(2048, affine=False))
    predictor = torch.nn.Sequential(linear(2048, 512, bias=False), bn(512), torch.nn.ReLU(), linear(512, 2048))
    one, two, optimizer = torch.randn(8, 3, 16, 16), torch.randn(8, 3, 16, 16), sgd(encoder, predictor)

    def loss():
        z1, z2 = encoder(one), encoder(two)
        p1, p2 = predictor(z1), predictor(z2)
        return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) * 0.5

    count("simsiam", lambda: train(optimizer, loss))


def fpn_detector():
    return torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, trainable_backbone_layers=5, min_size=128, max_size=160)


def c4_detector():
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    net = torchvision.models.resnet50()
    body = torch.nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)
    body.out_channels = 1024
    head = torch.nn.Sequential(
        net.layer4, torch.nn.BatchNorm2d(2048), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return FasterRCNN(
        body, rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 14, 0), box_head=head,
        box_predictor=FastRCNNPredictor(2048, 3), min_size=128, max_size=160)


def detection(name, build, images):
    net = build().train()
    net.roi_heads.batch_size_per_image = net.roi_heads.fg_bg_sampler.batch_size_per_image = 32
    optimizer = sgd(net)
    pixels = [torch.rand(3, 128, 160) for _ in range(images)]
    boxes = torch.tensor([[10.0, 20, 90, 100], [60, 10, 150, 70]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in range(images)]
    count(f"detection, {name}, {images} images", lambda: train(optimizer, lambda: sum(net(pixels, targets).values())))


def segmentation():
    net = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=2, aux_loss=True).train()
    optimizer = sgd(net)
    x, labels = torch.randn(2, 3, 64, 96), torch.randint(2, (2, 64, 96))

    def loss():
        out = net(x)
        return F.cross_entropy(out["out"], labels) + 0.4 * F.cross_entropy(out["aux"], labels)

    count("segmentation, DeepLab v3", lambda: train(optimizer, loss))


supervised()
moco()
simsiam()
for images in (2, 4):
    detection("C4", c4_detector, images)
    detection("FPN", fpn_detector, images)
segmentation()
