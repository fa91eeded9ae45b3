"""What the golden cases share: a filler reproducible bit for bit in any language, probes, and the writer.

Filler. A tensor is known by its name. With `h = FNV-1a-64(utf-8 of name)` and flat index `i` in C order,

    u[i] = (splitmix64(h + i) >> 40) / 2**24          in [0, 1), exact in float32 and float64
    splitmix64(x): x += 0x9E3779B97F4A7C15
                   x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9
                   x = (x ^ x >> 27) * 0x94D049BB133111EB
                   x ^ x >> 31                        all u64, wrapping

and the value, computed in float64 in the order written here and then rounded to float32, is

    4-D `*.weight` (convolution)   (2u - 1) * sqrt(6 / (in * kh * kw))
    2-D `*.weight` (linear)        (2u - 1) * sqrt(1 / in)
    1-D `*.weight` (batch norm)    0.5 + u
    `*.bias`                       (u - 0.5) * 0.2
    `*.running_mean`               (u - 0.5) * 0.2
    `*.running_var`                0.5 + u
    `*.num_batches_tracked`        0 (int64, no dimension)
    inputs, under any other name   4u - 2
    "sign" fillers                 2u - 1             cotangents, gradients, probe vectors: each case says where
    "unit" fillers                 u                  likewise

Known answers: FNV-1a("input") = 0x1ebbae8f5810b65b; u * 2**24 of "input" starts 1641119, 2474280, 9631538; "input"
of shape [4] has probe [-3.3899, -1.5394, 1.8047, 1.3533, -0.6868, 1.9036, 1.2045, 0.5221, 2.5797] to 4 decimals.

Rounding to float32 happens once; a case that computes in float64 starts from those float32 values.

Probe. A big tensor is summed up by 9 float64 numbers: its dot products with the sign fillers named
`{name}/probe0` .. `{name}/probe7` (flat, C order), then its L2 norm. Compare as `|a - b| / |b|` over the 9.

Files. Every case is `case.safetensors`; the metadata always has `torch`, `torchvision`, `numpy` (versions);
other keys are the case's own, and those that are not plain text are JSON.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.numpy import save

LIMIT = 50_000  # bytes a case may take in the repository
VERSIONS = {"torch": torch.__version__, "torchvision": torchvision.__version__, "numpy": np.__version__}

torch.set_num_threads(2)


def fnv1a64(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def uniform(name, shape):
    """`u` of the module docstring, float64."""
    count = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        x = np.uint64(fnv1a64(name)) + np.arange(count, dtype=np.uint64)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(40)).astype(np.float64) / 2**24).reshape(shape)


def _tensor(values):
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def unit(name, *shape):
    return _tensor(uniform(name, shape))


def sign(name, *shape):
    return _tensor(2 * uniform(name, shape) - 1)


def fill(name, *shape):
    """The value a tensor of this name and shape has; anything but a parameter or buffer is an input."""
    kind = name.rsplit(".", 1)[-1] if "." in name else ""
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    u = uniform(name, shape)
    if kind in ("bias", "running_mean"):
        return _tensor((u - 0.5) * 0.2)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        return _tensor(0.5 + u)
    if kind == "weight":
        fan_in = int(np.prod(shape[1:]))
        return _tensor((2 * u - 1) * np.sqrt((6 if len(shape) == 4 else 1) / fan_in))
    return _tensor(4 * u - 2)


def fill_module(module):
    """Overwrites every parameter and buffer of `module` with the filler of its state-dict name."""
    module.load_state_dict({name: fill(name, *t.shape) for name, t in module.state_dict().items()})
    return module


def probe(name, tensor):
    flat = tensor.detach().to(torch.float64).reshape(-1).numpy()
    dots = [flat @ (2 * uniform(f"{name}/probe{k}", flat.shape) - 1) for k in range(8)]
    return torch.tensor([*dots, np.linalg.norm(flat)], dtype=torch.float64)


def probes(named):
    """`{name: tensor}` to float64 [n, 9]."""
    return torch.stack([probe(name, tensor) for name, tensor in named.items()])


def write(script, tensors, **metadata):
    """`case.safetensors` beside `script`; metadata values that are not strings are stored as compact JSON."""
    arrays = {name: np.ascontiguousarray(t.detach().numpy()) for name, t in tensors.items()}
    text = {k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in metadata.items()}
    data = bytearray(save(arrays, metadata=VERSIONS | text))
    # The library writes the metadata in arbitrary order; sort it so that a rerun changes no byte it need not change.
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    packed = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    packed += b" " * (-len(packed) % 8)
    data = len(packed).to_bytes(8, "little") + packed + data[8 + size :]
    assert len(data) < LIMIT, f"{script}: {len(data)} bytes, the limit is {LIMIT}"
    path = Path(script).resolve().parent / "case.safetensors"
    path.write_bytes(data)
    print(f"{path.parent.name}: {len(data)} bytes, {len(arrays)} tensors")
