"""torchvision's state-dict names and shapes, without `fc.*`, in state-dict order: the names a checkpoint must have.

Writes `keys_{arch}.json` for resnet18, 34, 50, 101: one JSON object {name: shape}. `*.num_batches_tracked` is int64 of
shape [], everything else float32. `check_load.py` is the other direction: torchvision loading a file of ours.
"""

import json
from pathlib import Path

import torchvision

for arch in ("resnet18", "resnet34", "resnet50", "resnet101"):
    state = getattr(torchvision.models, arch)().state_dict()
    keys = {name: list(t.shape) for name, t in state.items() if not name.startswith("fc.")}
    path = Path(__file__).resolve().parent / f"keys_{arch}.json"
    path.write_text(json.dumps(keys, separators=(",", ":")) + "\n")
    assert path.stat().st_size < 50_000
    print(path.name, len(keys), "keys", path.stat().st_size, "bytes")
