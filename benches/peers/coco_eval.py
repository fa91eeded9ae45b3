"""COCO's average precision by faster-coco-eval (or pycocotools) and by `camtrast detection score`, each a process of its own, in turns.

    pip install faster-coco-eval pycocotools
    python benches/peers/coco_eval.py --camtrast target/release/camtrast [--threads 1] [--rounds 5] [--images 5000]

Synthetic images in VOC's proportions, 20 classes. Both processes read the same instances and results JSON, start to end. Ours computes
the VOC and detectron2 figures as well. Stops with an error when a figure differs by more than 1e-5.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT, CLASSES = 500, 375, 20


def make(folder, images):
    """Up to five objects an image; each found three times, well, loosely and under any class, among as many boxes anywhere."""
    import numpy as np

    rng = np.random.default_rng(0)
    annotations, results = [], []

    def place():
        w, h = 10 + np.rint(rng.random() * 300), 10 + np.rint(rng.random() * 250)
        return [float(np.rint(rng.random() * (WIDTH - w))), float(np.rint(rng.random() * (HEIGHT - h))), float(w), float(h)]

    def found(image, category, box, scale):
        score = round(float(rng.random()) * scale, 3)
        results.append({"image_id": image, "category_id": category, "bbox": box, "score": score})

    for image in range(1, images + 1):
        for _ in range(rng.integers(6)):
            category, box = int(rng.integers(CLASSES)) + 1, place()
            crowd = int(rng.random() < 0.1)
            whole = {"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box}
            annotations.append(whole | {"area": box[2] * box[3], "iscrowd": crowd})
            for looseness, label in ((0.1, category), (0.4, category), (0.2, int(rng.integers(CLASSES)) + 1)):
                moved = [round(side + float(rng.random() - 0.5) * looseness * box[2 + i % 2], 1) for i, side in enumerate(box)]
                found(image, label, [*moved[:2], max(moved[2], 1.0), max(moved[3], 1.0)], 1.0)
            for _ in range(3):
                found(image, int(rng.integers(CLASSES)) + 1, place(), 0.8)
    names = [{"id": i, "file_name": f"{i:06}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, images + 1)]
    categories = [{"id": i, "name": f"class{i}"} for i in range(1, CLASSES + 1)]
    instances = {"images": names, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "results.json").write_text(json.dumps(results))
    return len(annotations), len(results)


def theirs(package, instances, results):
    """The six figures."""
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(instances)
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(figure) for figure in evaluation.stats[:6]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camtrast", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--package", choices=["faster-coco-eval", "pycocotools"], default="faster-coco-eval")
    arguments = parser.parse_args()
    import turns

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        objects, detections = make(folder, arguments.images)
        instances, results, out = (folder / name for name in ("instances.json", "results.json", "ours.json"))
        score = [arguments.camtrast, "detection", "score", "--quiet", "--coco", instances, "--detections", results, "--out", out]
        peer = [sys.executable, __file__, "--theirs", arguments.package, instances, results]
        name = f"{arguments.package}, {arguments.images} images, {objects} objects, {detections} detections"
        print(turns.HEAD)
        _, stats = turns.compare(name, score, peer, arguments.threads, arguments.rounds)
        figures = json.loads(out.read_text())
        ours = [figures[f"detection/{name}"] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
        apart = max(abs(a - b) for a, b in zip(ours, json.loads(stats), strict=True))
    print(f"AP {ours[0]:.6f}, AP50 {ours[1]:.6f}; largest difference of six figures {apart:.1e}")
    sys.exit(apart > 1e-5)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        print(json.dumps(theirs(*sys.argv[2:])))
    else:
        main()
