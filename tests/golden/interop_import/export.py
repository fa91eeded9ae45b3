"""Checkpoints of other tools, for `camtrast checkpoint import`: one file per naming and container, gzipped.

The state dicts are those of real networks (torchvision's and timm's resnet18 and resnet50, wrapped as each tool wraps them); only
their tensors are shrunk, to 4 channels after the stem in place of 64, and filled. With `u` the filler of `_fill.py` under
torchvision's name of a tensor,

    value = (floor(2 u) - 0.5) / 2        `*.running_var`: one more; exact in half precision and bfloat16, and small when packed
    `*.num_batches_tracked` = length of its name

The other encoder of a file (key, momentum, target) and all heads are zeros. `refused_*` files must not be read.
`case.json` says of each file what is to be found: container, prefix, element type, and the groups that are left out.
"""

import argparse
import collections
import decimal
import enum
import functools
import gzip
import http
import io
import json
import os
import pickle
import re
import sys
import tempfile
from pathlib import Path

import mmengine
import mmengine.model
import mmengine.runner
import numpy as np
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import _fill  # noqa: E402
from _detectron2 import to_detectron2  # noqa: E402

DIVISOR = 16


def value(name, shape):
    """What the tensor that torchvision calls `name` holds."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(len(name))
    u = torch.from_numpy(_fill.uniform(name, shape))
    return ((2 * u).floor() - 0.5) / 2 + (1 if name.endswith("running_var") else 0)


def shrunk(tensor):
    """The shape of a tensor in the narrow network."""
    return [d // DIVISOR if i < 2 and d >= 64 else d for i, d in enumerate(tensor.shape)]


def fill(model, dtype, names=None):
    """The state dict of a real network, narrow and filled. `names` gives torchvision's name of a key, `None` for what is zero."""
    out = collections.OrderedDict()
    for key, tensor in model.state_dict().items():
        name = names(key) if names else key
        filled = torch.zeros(shrunk(tensor), dtype=torch.float64) if name is None else value(name, shrunk(tensor))
        out[key] = filled.to(dtype if tensor.is_floating_point() else tensor.dtype)
    return out


def after(prefix):
    """torchvision's names are what follows `prefix`; heads are zero."""
    return lambda key: key[len(prefix) :] if key.startswith(prefix) and ".fc." not in f".{key}" else None


def resnet18(**kwargs):
    return torchvision.models.resnet18(**kwargs)


class System:
    def __reduce__(self):
        return os.system, ("touch executed",)


class Two(nn.Module):
    """Two encoders and a buffer, as MoCo, BYOL and others have them."""

    def __init__(self, first, second, buffer=None, **named):
        super().__init__()
        self.add_module(first, named.get("net") or resnet18())
        self.add_module(second, resnet18())
        if buffer:
            self.register_buffer(buffer, torch.zeros(8, 16))


def zip_file(obj, **kwargs):
    out = io.BytesIO()
    torch.save(obj, out, **kwargs)
    return out.getvalue()


def legacy(obj):
    return zip_file(obj, _use_new_zipfile_serialization=False)


cases = {}


def case(name, data, **expected):
    (HERE / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
    cases[name] = expected
    print(f"{name}: {len(data)} bytes, {len(gzip.compress(data))} packed")


half, single, double, brain = torch.float16, torch.float32, torch.float64, torch.bfloat16

# torchvision in every container, and every precision.
plain = {d: fill(resnet18(), d, after("")) for d in (half, single, double, brain)}
case("torchvision.pth", zip_file(plain[single]), container="torch.save (zip)", prefix="", dropped=["fc"])
case("torchvision_half.pth", zip_file(plain[half]), container="torch.save (zip)", prefix="", dropped=["fc"], dtype="float16")
case("torchvision_protocol4.pth", zip_file(plain[brain], pickle_protocol=4), container="torch.save (zip)", prefix="", dropped=["fc"], dtype="bfloat16")
case("torchvision_double.pt", legacy(plain[double]), container="torch.save (before torch 1.6)", prefix="", dropped=["fc"], dtype="float64")
arrays = {k: t.numpy() for k, t in plain[single].items()}
case("torchvision.pkl", pickle.dumps(arrays, protocol=4), container="pickle", prefix="", dropped=["fc"])
case("torchvision_protocol5.pkl", pickle.dumps(arrays, protocol=5), container="pickle", prefix="", dropped=["fc"])
case("torchvision.safetensors", safetensors.torch.save(plain[brain]), container="safetensors", prefix="", dropped=["fc"], dtype="bfloat16")

# Views: channels-last weights, and everything in one storage.
last = {k: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for k, t in plain[half].items()}
case("channels_last.pth", zip_file(last), container="torch.save (zip)", prefix="", dropped=["fc"], dtype="float16")
flat = torch.cat([t.reshape(-1) for t in plain[half].values() if t.dtype == half])
views, start = {}, 0
for k, t in plain[half].items():
    if t.dtype == half:
        views[k] = flat[start : start + t.numel()].view(t.shape)
        start += t.numel()
case("one_storage.pth", zip_file(views), container="torch.save (zip)", prefix="", dropped=["fc"], dtype="float16", counters=False)
case("parameters.pth", zip_file({k: nn.Parameter(t) if t.is_floating_point() else t for k, t in plain[half].items()}), container="torch.save (zip)", prefix="", dropped=["fc"], dtype="float16")
case("fortran.pkl", pickle.dumps({"model": {k: np.asfortranarray(t.numpy()) for k, t in plain[half].items()}}, protocol=4), container="pickle", prefix="model.", dropped=["model.fc"], dtype="float16")

# timm, with its mean of weights beside.
model = timm.create_model("resnet18", num_classes=7)
weights = fill(model, half, after(""))
zeros = {k: torch.zeros_like(t) for k, t in weights.items()}
case("timm.safetensors", safetensors.torch.save(weights), container="safetensors", prefix="", dropped=["fc"], dtype="float16")
training = {"epoch": 3, "arch": "resnet18", "state_dict": weights, "state_dict_ema": zeros, "args": argparse.Namespace(lr=0.1, opt="sgd"), "metric": np.float64(71.5)}
case("timm_training.pth.tar", zip_file(training), container="torch.save (zip)", prefix="state_dict.", dropped=["state_dict.fc", "state_dict_ema"], dtype="float16")

# MoCo v2: DistributedDataParallel, optimizer, queue; v1 is the same without the MLP. Its files are of the old kind.
moco = nn.DataParallel(Two("encoder_q", "encoder_k", "queue"))
moco.module.encoder_q.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
weights = fill(moco, single, after("module.encoder_q."))
optimizer = {"state": {0: {"momentum_buffer": torch.zeros(4, 3, 7, 7)}}, "param_groups": [{"lr": 0.03, "params": [0]}]}
case("moco.pth.tar", legacy({"epoch": 200, "arch": "resnet18", "state_dict": weights, "optimizer": optimizer}),
     container="torch.save (before torch 1.6)", prefix="state_dict.module.encoder_q.",
     dropped=["state_dict.module.encoder_k", "state_dict.module.encoder_q.fc", "state_dict.module.queue"])


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = resnet18(zero_init_residual=True)
        self.predictor = nn.Linear(32, 8)


weights = fill(nn.DataParallel(SimSiam()), half, after("module.encoder."))
case("simsiam.pth.tar", zip_file({"epoch": 100, "state_dict": weights}), container="torch.save (zip)", prefix="state_dict.module.encoder.",
     dropped=["state_dict.module.encoder.fc", "state_dict.module.predictor"], dtype="float16")


class Encoder(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net


class Lucidrains(nn.Module):
    """byol-pytorch: the network is in it twice, once by itself."""

    def __init__(self):
        super().__init__()
        self.net = resnet18()
        self.online_encoder = Encoder(self.net)
        self.target_encoder = Encoder(resnet18())
        self.online_predictor = nn.Linear(16, 16)


byol = Lucidrains()
weights = fill(byol, half, after("online_encoder.net."))
for key in list(weights):
    if key.startswith("net."):
        weights[key] = weights[f"online_encoder.{key}"]
case("byol_lucidrains.pt", zip_file(weights), container="torch.save (zip)", prefix="online_encoder.net.",
     dropped=["net", "online_encoder.net.fc", "online_predictor", "target_encoder"], dtype="float16")

CHILDREN = dict(enumerate(name for name, _ in resnet18().named_children()))


def sequential(prefix):
    """torchvision's name of a key of `nn.Sequential(*list(resnet.children())[:-1])`."""

    def name(key):
        if not key.startswith(prefix):
            return None
        number, rest = key[len(prefix) :].split(".", 1)
        return f"{CHILDREN[int(number)]}.{rest}"

    return name


class Sthalles(nn.Module):
    """PyTorch-BYOL's ResNet18."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(*list(resnet18().children())[:-1])
        self.projetion = nn.Linear(16, 8)


online, target = fill(Sthalles(), half, sequential("encoder.")), fill(Sthalles(), half, lambda key: None)
case("byol_sthalles.pth", zip_file({"online_network_state_dict": online, "target_network_state_dict": target, "optimizer_state_dict": optimizer}),
     container="torch.save (zip)", prefix="online_network_state_dict.encoder.",
     dropped=["online_network_state_dict.projetion", "target_network_state_dict"], dtype="float16")


class Lightly(nn.Module):
    """A module of lightly's examples (BYOL): `backbone`, `backbone_momentum`."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1])
        self.backbone_momentum = nn.Sequential(*list(resnet18().children())[:-1])
        self.projection_head = nn.Linear(16, 8)


lightning = {"epoch": 10, "global_step": 1000, "pytorch-lightning_version": "1.9.5", "loops": {}, "optimizer_states": [optimizer]}
weights = fill(Lightly(), half, sequential("backbone."))
case("lightly.ckpt", zip_file(lightning | {"state_dict": weights}), container="torch.save (zip)", prefix="state_dict.backbone.",
     dropped=["state_dict.backbone_momentum", "state_dict.projection_head"], dtype="float16")


class SoloLearn(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = resnet18()
        self.backbone.fc = nn.Identity()
        self.classifier = nn.Linear(16, 10)
        self.momentum_backbone = resnet18()
        self.momentum_backbone.fc = nn.Identity()


weights = fill(SoloLearn(), half, after("backbone."))
hyper = argparse.Namespace(method="mocov2plus", max_epochs=400)
case("solo_learn.ckpt", zip_file(lightning | {"state_dict": weights, "hyper_parameters": hyper}), container="torch.save (zip)",
     prefix="state_dict.backbone.", dropped=["state_dict.classifier", "state_dict.momentum_backbone"], dtype="float16")

backbone = {k: t for k, t in plain[half].items() if not k.startswith("fc.")}
vissl = {"phase_idx": 99, "iteration": 5, "loss": 0.5,
         "classy_state_dict": {"train": True, "base_model": {"model": {
             "trunk": {f"_feature_blocks.{k}": t for k, t in backbone.items()},
             "heads": {"0.clf.0.weight": torch.zeros(4, 4)}}, "meters": [], "optimizer": optimizer}}}
case("vissl.torch", zip_file(vissl), container="torch.save (zip)", prefix="classy_state_dict.base_model.model.trunk._feature_blocks.",
     dropped=["classy_state_dict.base_model.model.heads"], dtype="float16")

mm = {"meta": {"epoch": 200, "mmselfsup_version": "1.0"}, "state_dict": {f"backbone.{k}": t for k, t in backbone.items()} | {"head.fc.weight": torch.zeros(3, 3)}}
case("mmpretrain.pth", zip_file(mm), container="torch.save (zip)", prefix="state_dict.backbone.", dropped=["state_dict.head"], dtype="float16")


renamed = {to_detectron2(k): t.numpy() for k, t in backbone.items()}
case("detectron2.pkl", pickle.dumps({"model": renamed, "__author__": "torchvision", "matching_heuristics": True}),
     container="pickle", prefix="model.", dropped=[], dtype="float16")
trained = {f"backbone.bottom_up.{to_detectron2(k)}": t for k, t in backbone.items() if "num_batches" not in k}
case("detectron2_fpn.pth", zip_file({"model": trained | {"proposal_generator.rpn_head.conv.bias": torch.zeros(4)}, "iteration": 9}),
     container="torch.save (zip)", prefix="model.backbone.bottom_up.", dropped=["model.proposal_generator"], dtype="float16", counters=False)
c4 = {("roi_heads." if to_detectron2(k).startswith("res5") else "backbone.") + to_detectron2(k): t for k, t in backbone.items()}
case("detectron2_c4.pth", zip_file({"model": c4 | {"roi_heads.box_predictor.bbox_pred.bias": torch.zeros(4)}}), container="torch.save (zip)",
     prefix="model.backbone.", dropped=["model.roi_heads"], dtype="float16")
# MoCo's detection protocol: its Res5ROIHeadsExtraNorm adds a module "norm" to the Sequential of res5, and NORM is SyncBN.
extra = nn.Sequential(collections.OrderedDict(norm=nn.BatchNorm2d(32))).state_dict(prefix="roi_heads.res5.")
case("detectron2_moco.pth", zip_file({"model": c4 | {k: t * 0 for k, t in extra.items()}, "iteration": 23999}), container="torch.save (zip)",
     prefix="model.backbone.", dropped=["model.roi_heads"], dtype="float16")

# Every protocol of pickle. torch.load itself does not read its files of protocol 0, whose storages are named by text.
for protocol in (0, 1, 2):
    arrays = {k: t.numpy() for k, t in plain[half].items()}
    case(f"torchvision_protocol{protocol}.pkl", pickle.dumps(arrays, protocol=protocol), container="pickle", prefix="", dropped=["fc"], dtype="float16")
for protocol in (0, 1):
    case(f"torchvision_protocol{protocol}.pth", zip_file(plain[half], pickle_protocol=protocol), container="torch.save (zip)", prefix="", dropped=["fc"], dtype="float16")
for protocol in (0, 1, 5):
    legacy_file = zip_file(plain[half], pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    case(f"legacy_protocol{protocol}.pth", legacy_file, container="torch.save (before torch 1.6)", prefix="", dropped=["fc"], dtype="float16")
transposed = {k: np.asfortranarray(t.numpy()) for k, t in plain[half].items()}
case("fortran_protocol2.pkl", pickle.dumps(transposed, protocol=2), container="pickle", prefix="", dropped=["fc"], dtype="float16")


class Python2(pickle._Pickler):
    """Python 2's text and bytes are one type, which its protocol 0 writes as repr does."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, obj):
        text = obj.encode() if isinstance(obj, str) else obj
        self.write(b"S" + repr(text)[1:].encode() + b"\n")
        self.memoize(obj)

    dispatch[bytes] = dispatch[str] = save_string


python2 = io.BytesIO()
Python2(python2, protocol=0).dump(transposed)
case("python2_protocol0.pkl", python2.getvalue(), container="pickle", prefix="", dropped=["fc"], dtype="float16")


# What mmengine's own Runner saves after two iterations: message_hub holds HistoryBuffers, which hold functions and numpy arrays.
class Trained(mmengine.model.BaseModel):
    """A model whose weights are `weights`."""

    def __init__(self, weights):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.weights = weights

    def forward(self, inputs, mode):
        return {"loss": self.scale * inputs.sum()}

    def state_dict(self, *args, **kwargs):
        return self.weights


with tempfile.TemporaryDirectory() as folder:
    runner = mmengine.runner.Runner(
        model=Trained(collections.OrderedDict({f"backbone.{k}": t for k, t in backbone.items()} | {"head.fc.weight": torch.zeros(3, 3)})),
        work_dir=folder,
        train_dataloader=torch.utils.data.DataLoader([{"inputs": torch.ones(1)}] * 2),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
        param_scheduler=dict(type="MultiStepLR", milestones=[1]),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)),
        experiment_name="golden",
        log_level="ERROR",
        randomness=dict(seed=0),
    )
    runner.train()
    case("mmengine.pth", Path(folder, "epoch_1.pth").read_bytes(), container="torch.save (zip)", prefix="state_dict.backbone.",
         dropped=["state_dict.head"], dtype="float16", called="mmengine.logging.history_buffer.HistoryBuffer")


class Mode(enum.Enum):
    LINEAR = "linear"


# Objects of every kind beside the weights, called by nobody here; the array of numbers is a tensor beside them.
beside = {
    "queue": np.arange(-3, 3, dtype=np.float32).reshape(2, 3),
    "big_endian": np.arange(3, dtype=">f4"),
    "names": np.array(["a", None], dtype=object),
    "records": np.zeros(2, dtype=[("x", "f4"), ("y", "i8")]),
    "scalar": np.float32(0.5),
    "mode": Mode.LINEAR,
    "status": http.HTTPStatus.OK,
    "schedule": functools.partial(pow, 2, mod=7),
    "history": collections.deque([1.0, [2.0]], maxlen=5),
    "method": "text".upper,
    "function": os.path.join,
    "sparse": torch.eye(2).to_sparse(),
    "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "values": [decimal.Decimal("0.1"), 1j, range(3), slice(1, 2), {1, 2}, frozenset([3]), re.compile("a"), Path("a"), 2**70, -1.5],
    "module": nn.Linear(2, 2),
    "evil": System(),
}
for protocol in (2, 4):
    case(f"beside_protocol{protocol}.pth", zip_file({"state_dict": plain[half]} | beside, pickle_protocol=protocol), container="torch.save (zip)",
         prefix="state_dict.", dropped=["queue", "records", "state_dict.fc"], dtype="float16", called="posix.system")
case("beside_protocol0.pkl", pickle.dumps({"state_dict": {k: t.numpy() for k, t in plain[half].items()}} | {k: v for k, v in beside.items() if k not in ("sparse", "quantised", "module")}, protocol=0),
     container="pickle", prefix="state_dict.", dropped=["queue", "records", "state_dict.fc"], dtype="float16", called="posix.system")

# Not whole.
case("partial.pth", zip_file({k: t for k, t in plain[half].items() if k != "conv1.weight" and not (k.startswith("layer2.0.bn1") and "num_" not in k)}), container="torch.save (zip)",
     prefix="", dropped=["fc"], dtype="float16", missing=["conv1.weight"] + [f"layer2.0.bn1.{p}" for p in ("bias", "running_mean", "running_var", "weight")])

# Must be refused, for the reason given.


class Evil:
    def __reduce__(self):
        return eval, ("open('executed', 'w')",)


case("refused_os_system.pth", zip_file({"state_dict": System()}), refused=f"wants to call {os.system.__module__}.system")
case("refused_os_system.pkl", b"\x80\x02cos\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.", refused="wants to call os.system")
case("refused_eval.pt", legacy(Evil()), refused="wants to call __builtin__.eval")
case("refused_module.pth", zip_file(resnet18(num_classes=2).layer1[0].bn1), refused="torch.nn.modules.batchnorm.BatchNorm2d")


class Nothing(nn.Module):
    def forward(self, x):
        return x


script = io.BytesIO()
torch.jit.save(torch.jit.script(Nothing()), script)
case("refused_script.pt", script.getvalue(), refused="TorchScript")
none = lambda key: None  # noqa: E731
case("refused_resnet50d.pth", zip_file(fill(timm.create_model("resnet50d"), half, none)), refused="ResNet-D")
case("refused_seresnet50.pth", zip_file(fill(timm.create_model("seresnet50"), half, none)), refused="unexpected layer1.0.se")
case("refused_wide.pth", zip_file(fill(torchvision.models.wide_resnet50_2(), half, none)), refused="wide")
case("refused_gn.pth", zip_file(fill(timm.create_model("resnet50_gn"), half, none)), refused="missing bn1.running_mean")
case("refused_vit.pth", zip_file({"blocks.0.attn.qkv.weight": torch.zeros(2)}), refused="no ResNet")
resnet50 = {to_detectron2(k): t.numpy() for k, t in fill(torchvision.models.resnet50(), half, none).items() if "fc." not in k}
case("stride_unknown.pkl", pickle.dumps({"model": resnet50, "__author__": "someone"}), refused="stride on the 1x1")
case("refused_caffe2.pkl", pickle.dumps({"blobs": {"conv1_w": np.zeros(3), "res2_0_branch2a_w": np.zeros(3)}}), refused="Caffe2")

# Weights that something beside them would have to make.
quantised = plain[half] | {"layer1.0.conv1.weight": torch.quantize_per_tensor(plain[single]["layer1.0.conv1.weight"], 0.1, 0, torch.qint8)}
case("refused_quantised.pth", zip_file({"state_dict": quantised}), refused='"state_dict.layer1.0.conv1.weight" that torch._utils._rebuild_qtensor must make')
swapped = arrays | {"layer1.0.bn1.bias": arrays["layer1.0.bn1.bias"].astype(">f2")}
case("refused_big_endian.pkl", pickle.dumps(swapped, protocol=4), refused='"layer1.0.bn1.bias" in big-endian order')

# Plain names, other arithmetic: timm's anti-aliased networks are known by what calls them so, and by nothing else.
for name, plain_one in [("resnetblur18", "resnet18"), ("resnetblur50", "resnet50"), ("resnetaa50", "resnet50")]:
    [other, same] = [{k: t.shape for k, t in timm.create_model(n).state_dict().items()} for n in (name, plain_one)]
    assert other == same, name
weights = fill(timm.create_model("resnetblur18"), half, none)
case("refused_resnetblur18.pth", zip_file(weights), refused="anti-aliased")
case("refused_arch.pth.tar", zip_file({"epoch": 3, "arch": "resnetblur18", "state_dict": weights}), refused="anti-aliased")
case("refused_arch.safetensors", safetensors.torch.save(weights, metadata={"format": "pt", "architecture": "resnetblur18"}), refused="anti-aliased")

text = json.dumps(_fill.VERSIONS | {"timm": timm.__version__, "mmengine": mmengine.__version__, "cases": cases}, indent=1)
(HERE / "case.json").write_text(text + "\n")
print(sum(f.stat().st_size for f in HERE.iterdir()), "bytes in all")
