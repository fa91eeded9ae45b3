"""COCO-style average precision by pycocotools, on the scenes of `_scenes.py`.

The instances are what camtrast writes: a VOC box becomes `[xmin-1, ymin-1, xmax-xmin+1, ymax-ymin+1]`, its area the product
of the sides, a difficult object `iscrowd: 1`; categories and images are numbered from 1.

    {scene}/objects, {scene}/detections      float32, see _scenes.py
    {scene}/stats                            float64 [6]: AP, AP50, AP75, AP small, AP medium, AP large; -1 where there is none
    {scene}/per_class                        float64 [10, 6, 4]: AP by threshold .50:.05:.95, class and area (all, small,
                                             medium, large), the mean over 101 recalls; -1 for a class without objects
    {scene}/precision                        float64 [6, 101]: the curve at .50 over all areas

    python tests/golden/coco_eval/export.py        (pip install pycocotools)
"""

import contextlib
import importlib.metadata
import io
import sys
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fill import write
from _scenes import CLASSES, HEIGHT, IMAGES, WIDTH, scenes


def coco_box(x1, y1, x2, y2):
    return [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]


def evaluate(objects, detections):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1, "width": WIDTH, "height": HEIGHT, "file_name": f"{i}.jpg"} for i in range(IMAGES)],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(CLASSES)],
        "annotations": [],
    }
    for number, (image, label, *box, difficult) in enumerate(objects.tolist(), 1):
        box = coco_box(*box)
        truth.dataset["annotations"].append(
            {
                "id": number,
                "image_id": int(image) + 1,
                "category_id": int(label) + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(difficult),
            }
        )
    truth.createIndex()
    results = [
        {"image_id": int(image) + 1, "category_id": int(label) + 1, "score": score, "bbox": coco_box(*box)}
        for image, label, score, *box in detections.tolist()
    ]
    evaluation = COCOeval(truth, truth.loadRes(results) if results else COCO(), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def main():
    tensors = {}
    for name, (objects, detections) in scenes().items():
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = evaluate(objects, detections)
        precision = evaluation.eval["precision"][..., -1]  # [T, R, K, A] at 100 detections
        tensors |= {
            f"{name}/objects": objects,
            f"{name}/detections": detections,
            f"{name}/stats": evaluation.stats[:6],
            f"{name}/per_class": precision.mean(axis=1),
            f"{name}/precision": precision[0, :, :, 0].T.copy(),
        }
        print(name, len(objects), len(detections), np.round(evaluation.stats[:6], 4))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
    write(__file__, tensors, pycocotools=importlib.metadata.version("pycocotools"))


if __name__ == "__main__":
    main()
