"""Our exports in other tools: `CAMTRAST_KEEP=DIR cargo test -p camtrast-interop --test exports`, then `export.py DIR`.

The backbones are resnet18 and resnet50 filled by `_fill.py`'s rule. Every file must load whole; the snippets of docs/interop.md
that are marked `# run:` are run as they stand there, in DIR. Stored: the SHA-256 of each file that was loaded here, which the
test compares with that of what it writes, and the pooled features [2, D] of `fill("input", 2, 3, 64, 64)` in each tool.

mmsegmentation runs without mmcv's compiled operators, which its ResNet does not use: they are replaced by nothing.
detectron2 is on no package index: its files are loaded with `pickle` as it does, and their names compared with what its own
tools/convert-torchvision-to-d2.py gives.
"""

import hashlib
import os
import pickle
import re
import sys
import warnings
from pathlib import Path
from unittest.mock import MagicMock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
DOCS = HERE.parents[2] / "docs/interop.md"
folder = Path(sys.argv[1]).resolve()

import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

import _fill  # noqa: E402
from _detectron2 import to_detectron2  # noqa: E402

sys.modules["mmcv._ext"] = MagicMock()
sys.modules["mmcv.ops"] = MagicMock()

images = _fill.fill("input", 2, 3, 64, 64)
truth, tensors = {}, {}


def features(model):
    """Pooled features of a torchvision-like network."""
    with torch.no_grad():
        model.eval()
        x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        return model.layer4(model.layer3(model.layer2(model.layer1(x)))).mean((2, 3))


for arch in ("resnet18", "resnet50"):
    model = _fill.fill_module(getattr(torchvision.models, arch)())
    truth[arch] = {k: t for k, t in model.state_dict().items() if not k.startswith("fc.")}
    tensors[f"{arch}.torchvision"] = features(model)

# Every file, by the loader it is for: whole, and the same bits.
sha256 = {}
for path in sorted(folder.glob("resnet*_*")):
    arch, tool = path.stem.split("_")
    want = truth[arch]
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    elif path.suffix == ".pkl":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = pickle.loads(path.read_bytes(), encoding="latin1")
        state = {k: torch.from_numpy(np.array(a)) for k, a in loaded["model"].items()}
    else:
        loaded = torch.load(path, weights_only=True)
        state = loaded.get("model", loaded.get("state_dict", loaded))
    if tool == "detectron2":
        want = {to_detectron2(k): t for k, t in want.items() if "num_batches" not in k}
        if path.suffix != ".safetensors":
            assert loaded["__author__"] == "camtrast" and loaded["matching_heuristics"] is True
    assert sorted(state) == sorted(want), path
    assert all(torch.equal(state[k], t) and state[k].dtype == t.dtype for k, t in want.items()), path
    sha256[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / path.name.split("_")[1]).unlink(missing_ok=True)
    if arch == "resnet18":
        (folder / path.name.split("_")[1]).symlink_to(path.name)

os.chdir(folder)
versions = {}
for tool, snippet in re.findall(r"```python\n# run: (\w+)\n(.*?)```", DOCS.read_text(), re.S):
    names = {"images": images}
    exec(compile(snippet, f"docs/interop.md ({tool})", "exec"), names)
    model = names["model"]
    if tool == "timm":
        tensors["resnet18.timm"] = names["features"].detach()
    elif tool == "smp":
        with torch.no_grad():
            tensors["resnet18.smp"] = model.encoder.eval()(images)[-1].mean((2, 3))
    else:
        tensors[f"resnet18.{tool}"] = features(model)
    versions[tool] = sys.modules[{"smp": "segmentation_models_pytorch"}.get(tool, tool)].__version__
    error = (tensors[f"resnet18.{tool}"] - features(_fill.fill_module(torchvision.models.resnet18()))).abs().max()
    print(f"{tool} {versions[tool]}: features differ by {error:.1e}")
    assert error < 1e-5
assert sorted(versions) == ["mmseg", "smp", "timm", "torchvision"]
_fill.write(__file__, tensors, sha256=sha256, ran=versions)
