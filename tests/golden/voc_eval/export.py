"""PASCAL VOC's average precision, on the scenes of `_scenes.py`, as the Python form of the devkit's VOCevaldet.m computes it
(`voc_eval.py` of Girshick's Faster R-CNN, which detectron2's evaluator repeats): sides count the last pixel, each detection
is held against the object it overlaps most, the overlap must exceed the threshold, difficult objects count neither way.
Written here from that definition, detection by detection. Equal scores keep the order of the file, as MATLAB's sort does.

    {scene}/objects, {scene}/detections      float32, see _scenes.py
    {scene}/ap11, {scene}/area               float64 [10, 6]: 11-point and area AP by threshold .50:.05:.95 and class;
                                             NaN for a class without an object that counts
    {scene}/curve{class}                     float64 [2, detections of the class]: recall and precision at .50
    {scene}/figures                          float64 [4]: VOC07 mAP and area mAP at .50, then detectron2's AP by either rule:
                                             the mean over classes and thresholds. NaN without classes

    python tests/golden/voc_eval/export.py
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fill import write
from _scenes import CLASSES, scenes

THRESHOLDS = [t / 100 for t in range(50, 100, 5)]


def overlaps(box, others):
    """Intersection over union with inclusive ends."""
    sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2]) + 1
    inside = np.prod(np.maximum(sides, 0), axis=1)
    area = lambda b: np.prod(b[..., 2:] - b[..., :2] + 1, axis=-1)
    return inside / (area(box) + area(others) - inside)


def curve(objects, detections, threshold):
    """Recall and precision after each detection, or None where nothing counts."""
    counting = int(np.sum(objects[:, 6] == 0))
    if counting == 0:
        return None
    taken = np.zeros(len(objects), dtype=bool)
    hits, misses = np.zeros(len(detections)), np.zeros(len(detections))
    for d, row in enumerate(detections[np.argsort(-detections[:, 2], kind="stable")]):
        there = np.flatnonzero(objects[:, 0] == row[0])
        overlap = overlaps(row[3:], objects[there, 2:6])
        if len(there) and overlap.max() > threshold:
            best = there[overlap.argmax()]
            if objects[best, 6] == 0:
                hits[d], misses[d] = not taken[best], taken[best]
                taken[best] = True
        else:
            misses[d] = 1
    hits, misses = np.cumsum(hits), np.cumsum(misses)
    return hits / counting, hits / np.maximum(hits + misses, np.finfo(np.float64).eps)


def ap11(recall, precision):
    at = lambda t: np.max(precision[recall >= t], initial=0)
    return sum(at(t) for t in np.arange(0.0, 1.1, 0.1)) / 11


def area(recall, precision):
    recall, precision = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.sum(np.diff(recall) * envelope[1:])


def main():
    tensors = {}
    for name, (objects, detections) in scenes().items():
        tensors |= {f"{name}/objects": objects, f"{name}/detections": detections}
        table = np.full((2, len(THRESHOLDS), CLASSES), np.nan)
        for label in range(CLASSES):
            ours = [rows[rows[:, 1] == label].astype(np.float64) for rows in (objects, detections)]
            for t, threshold in enumerate(THRESHOLDS):
                found = curve(*ours, threshold)
                if found is None:
                    continue
                table[:, t, label] = ap11(*found), area(*found)
                if t == 0:
                    tensors[f"{name}/curve{label}"] = np.stack(found)
        tensors |= {f"{name}/ap11": table[0], f"{name}/area": table[1]}
        counted = table[:, :, ~np.isnan(table[0, 0])]
        figures = [rows.mean() if rows.size else np.nan for rows in (*counted[:, 0], *counted)]
        tensors[f"{name}/figures"] = np.array(figures)
        print(name, len(objects), len(detections), np.round(figures, 4))
    write(__file__, {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()})


if __name__ == "__main__":
    main()
