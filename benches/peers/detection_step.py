"""One training step of detectron2's C4 detector under MoCo's settings beside ours, in turns, with the ratio of the medians.

    PYTHONPATH=path/to/detectron2 python benches/peers/detection_step.py [--rounds 5] [--threads 1] [--width 32]

ResNet-50 of `width` channels after the stem, two images of 192 x 256 and 180 x 240 pixels, 20 classes, 12000 / 2000 proposals, 32 regions
an image; forward, backward and SGD. Seconds are processor time, all threads together. detectron2 runs uncompiled: RoIAlign and
suppression are torchvision's. Packages as for tests/golden/c4/export.py.
"""

import argparse
import time
from statistics import median

import _bench
import torch
from detectron2.config import get_cfg
from detectron2.layers import get_norm
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

STEPS = 5


@ROI_HEADS_REGISTRY.register()
class ExtraNorm(Res5ROIHeads):
    @classmethod
    def _build_res5_block(cls, cfg):
        blocks, channels = super()._build_res5_block(cfg)
        blocks.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return blocks, channels


def theirs(width):
    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.ROI_HEADS.NAME": "ExtraNorm",
        "MODEL.ROI_HEADS.NUM_CLASSES": 20,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": width,
        "MODEL.RESNETS.WIDTH_PER_GROUP": width,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 4 * width,
        "MODEL.PIXEL_MEAN": [127.5, 127.5, 127.5],
        "MODEL.PIXEL_STD": [255.0, 255.0, 255.0],
    }
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)
    batch = []
    for height, width in ((192, 256), (180, 240)):
        truth = Instances((height, width))
        truth.gt_boxes = Boxes(torch.tensor([[20.0, 30, 120, 160], [100, 20, 220, 90]]))
        truth.gt_classes = torch.tensor([0, 6])
        batch.append({"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8), "instances": truth})

    def step():
        begun = time.process_time()
        optimizer.zero_grad()
        with EventStorage():
            sum(model(batch).values()).backward()
        optimizer.step()
        return time.process_time() - begun

    step()
    return median(step() for _ in range(STEPS))


def ours(threads, width, profile):
    return _bench.run("camtrast-detection", profile, threads, {"CAMTRAST_BENCH_WIDTH": str(width)})["step"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--cargo-profile", default="bench", help="profile that ours is built with")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    turns = [(ours(args.threads, args.width, args.cargo_profile), theirs(args.width)) for _ in range(args.rounds)]
    for mine, peer in turns:
        print(f"ours {mine:.3f} s, detectron2 {peer:.3f} s, {peer / mine:.2f}x")
    mine, peer = (median(column) for column in zip(*turns))
    print(f"median: ours {mine:.3f} s, detectron2 {peer:.3f} s: {peer / mine:.2f}x its speed")
