"""What the two detection evaluations share: objects and detections that meet every rule of either.

A scene is two float32 arrays in the coordinates of VOC's files (1-based, both ends inside):

    objects     [n, 7]  image, class, xmin, ymin, xmax, ymax, difficult
    detections  [m, 7]  image, class, score, xmin, ymin, xmax, ymax     in the order of a result file

IMAGES images, numbered from 0, measure WIDTH x HEIGHT; some hold nothing. Of the CLASSES, 3 has objects and no detections, 4 detections and no
objects, 5 only difficult objects. Coordinates of detections are quarters, which float32 and "%.2f" hold exactly; scores
are few, so that many are equal, within an image and between images.
"""

import numpy as np

IMAGES, WIDTH, HEIGHT = 24, 500, 375
CLASSES = 6
DETECTED, UNDETECTED, ABSENT, ALL_DIFFICULT = range(3), 3, 4, 5


def _box(rng, longest):
    width, height = (int(s) for s in rng.integers(8, longest, 2))
    x, y = int(rng.integers(1, WIDTH - width)), int(rng.integers(1, HEIGHT - height))
    return np.array([x, y, x + width - 1, y + height - 1], dtype=np.float64)


def _clip(box):
    box = np.round(box * 4) / 4
    x, y = np.sort(np.clip(box[[0, 2]], 1, WIDTH)), np.sort(np.clip(box[[1, 3]], 1, HEIGHT))
    return [x[0], y[0], x[1], y[1]]


def mixed():
    rng = np.random.default_rng(2026)
    objects, detections = [], []
    for image in range(IMAGES):
        for _ in range(int(rng.integers(0, 8))):
            label = int(rng.choice([0, 0, 0, 1, 2, UNDETECTED, ALL_DIFFICULT]))
            box = _box(rng, int(rng.choice([30, 90, 300])))
            difficult = label == ALL_DIFFICULT or rng.random() < 0.2
            objects.append([image, label, *box, difficult])
            if label == UNDETECTED:
                continue
            side = np.tile(box[2:] - box[:2] + 1, 2)
            # None, one or several (duplicates), from tight to loose, now and then under another class.
            for _ in range(int(rng.integers(0, 4))):
                moved = _clip(box + rng.normal(size=4) * side * rng.choice([0.01, 0.05, 0.15]))
                guess = label if rng.random() < 0.85 else int(rng.choice([*DETECTED, ABSENT]))
                detections.append([image, guess, rng.integers(6, 21) / 20, *moved])
        for _ in range(int(rng.integers(0, 5))):
            guess = int(rng.choice([*DETECTED, ABSENT, ALL_DIFFICULT]))
            detections.append([image, guess, rng.integers(1, 15) / 20, *_clip(_box(rng, 200))])
    return objects, detections


def exact():
    """Overlaps of exactly 1/2, 3/4 and 1, equal overlaps with two objects, duplicates on a difficult object, a box of one
    pixel, and 130 detections of one class in one image, of which COCO counts the first 100."""
    objects = [
        [0, 0, 1, 1, 20, 20, 0],
        [0, 0, 101, 1, 120, 20, 1],
        [1, 0, 11, 11, 30, 30, 0],
        [1, 0, 31, 11, 50, 30, 0],
        [2, 1, 1, 1, 100, 100, 0],
        [2, 1, 201, 201, 300, 300, 0],
        [3, 1, 5, 5, 36, 36, 0],
        [3, 1, 5, 5, 36, 36, 0],
        [4, 2, 1, 1, 96, 96, 0],
    ]
    detections = [
        [0, 0, 0.9, 1, 1, 20, 10],  # 1/2 of the first
        [0, 0, 0.9, 1, 1, 20, 20],
        [0, 0, 0.8, 1, 1, 20, 15],  # 3/4, but taken
        [0, 0, 0.95, 101, 1, 120, 20],  # difficult
        [0, 0, 0.7, 101, 1, 120, 18],  # difficult again
        [1, 0, 0.9, 21, 11, 40, 30],  # 1/3 of either
        [1, 0, 0.6, 11, 11, 50, 30],  # 1/2 of either
        [3, 1, 0.5, 5, 5, 36, 36],
        [3, 1, 0.5, 5, 5, 36, 36],
        [3, 1, 0.5, 5, 5, 36, 36],
        [4, 2, 0.3, 7, 7, 7, 7],
    ]
    for k in range(130):
        detections.append([2, 1, 0.9 - k // 10 / 20, 301 + k % 50, 201, 360, 260])
    # Behind the hundredth: COCO never sees it.
    detections.append([2, 1, 0.01, 201, 201, 300, 300])
    detections.append([2, 1, 0.6, 1, 1, 100, 100])
    return objects, detections


def none():
    return exact()[0], []


def scenes():
    """`{name: (objects [n, 7], detections [m, 7])}`, float32; `empty` has neither."""
    made = {"mixed": mixed(), "exact": exact(), "none": none(), "empty": ([], [])}
    array = lambda rows: np.array(rows, dtype=np.float32).reshape(-1, 7)
    return {name: (array(objects), array(detections)) for name, (objects, detections) in made.items()}
