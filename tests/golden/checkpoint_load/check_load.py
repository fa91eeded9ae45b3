"""Asserts that torchvision loads a `backbone.safetensors`: `python check_load.py FILE [ARCH]`.

ARCH defaults to the file's own `arch` metadata. Missing must be exactly `fc.weight`, `fc.bias`; nothing unexpected;
every dtype and shape as torchvision's own. Prints one line starting with OK, or raises.
"""

import sys

import safetensors
import safetensors.torch
import torchvision

path = sys.argv[1]
with safetensors.safe_open(path, "pt") as file:
    arch = sys.argv[2] if len(sys.argv) > 2 else (file.metadata() or {})["arch"]
ours = safetensors.torch.load_file(path)
model = getattr(torchvision.models, arch)()
for name, t in model.state_dict().items():
    if name in ours:
        got, want = (ours[name].dtype, tuple(ours[name].shape)), (t.dtype, tuple(t.shape))
        assert got == want, f"{path}: {name} is {got}, torchvision has {want}"
missing, unexpected = model.load_state_dict(ours, strict=False)
assert sorted(missing) == ["fc.bias", "fc.weight"], f"{path}: missing {missing}"
assert not unexpected, f"{path}: unexpected {unexpected}"
for name, t in model.state_dict().items():
    assert name.startswith("fc.") or (t == ours[name]).all(), f"{path}: {name} was not loaded"
print(f"OK {path}: {len(ours)} tensors into torchvision's {arch}")
