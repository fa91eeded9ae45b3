"""mmsegmentation's modules, without the compiled operations that those used here do not need.

    pip install --no-deps mmsegmentation==1.2.2 mmengine==0.10.7 mmcv-lite==2.1.0 opencv-python-headless==4.11.0.86 \
        addict ftfy packaging platformdirs prettytable pyyaml regex rich termcolor wcwidth yapf
"""

import sys
import types
import warnings

warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")


class Absent(types.ModuleType):
    """Stands for `mmcv.ops`, which mmcv-lite lacks: heads that are never built import names from it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


sys.modules["mmcv.ops"] = Absent("mmcv.ops")

import cv2  # noqa: E402
import mmcv  # noqa: E402
import mmengine  # noqa: E402
import mmseg  # noqa: E402
from mmseg.models.backbones import ResNetV1c  # noqa: E402
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, FCNHead  # noqa: E402

VERSIONS = {"mmseg": mmseg.__version__, "mmcv": mmcv.__version__, "mmengine": mmengine.__version__, "opencv": cv2.__version__}
CHANNELS_OF_LAYER1 = 48


def deeplab(depth, width, channels, classes, rates, dropout=0.0):
    """Backbone, decode head and auxiliary head of `_base_/models/deeplabv3plus_r50-d8.py`, narrower, on one device."""
    norm = {"type": "BN", "requires_grad": True}
    features = width * 8 * (4 if depth >= 50 else 1)
    backbone = ResNetV1c(
        depth=depth,
        base_channels=width,
        stem_channels=width,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=norm,
        norm_eval=False,
        style="pytorch",
        contract_dilation=True,
    )
    shared = {"num_classes": classes, "norm_cfg": norm, "align_corners": False, "dropout_ratio": dropout}
    head = DepthwiseSeparableASPPHead(
        in_channels=features,
        in_index=3,
        channels=channels,
        dilations=(1, *rates),
        c1_in_channels=features // 8,
        c1_channels=CHANNELS_OF_LAYER1,
        loss_decode={"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        **shared,
    )
    auxiliary = FCNHead(
        in_channels=features // 2,
        in_index=2,
        channels=channels // 2,
        num_convs=1,
        concat_input=False,
        loss_decode={"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 0.4},
        **shared,
    )
    return backbone, head, auxiliary
