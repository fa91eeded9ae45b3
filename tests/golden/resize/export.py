"""One small photo-like image resized by PIL, as torchvision's Resize and CenterCrop do it.

Run in this folder: python export.py (needs numpy, pillow, safetensors, torch, torchvision; versions go into the metadata).
"""

import numpy as np
import PIL
import torchvision
from PIL import Image
from safetensors.numpy import save_file
from torchvision import transforms

rng = np.random.default_rng(0)
height, width = 61, 90
coarse = rng.integers(0, 256, (8, 11, 3), dtype=np.uint8)
image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC)).astype(int)
image = np.clip(image + rng.integers(-25, 26, image.shape), 0, 255).astype(np.uint8)
picture = Image.fromarray(image)


def stretch(height, width):
    return np.asarray(picture.resize((width, height), Image.BILINEAR))


resize_crop = transforms.Compose([transforms.Resize(46), transforms.CenterCrop(41)])
tall = Image.fromarray(np.ascontiguousarray(image.transpose(1, 0, 2)))
save_file(
    {
        "image": image,
        "shrunk": stretch(20, 21),
        "grown": stretch(64, 97)[:24].copy(),
        "mixed": stretch(80, 33),
        "resize46_crop41": np.asarray(resize_crop(picture)),
        "tall_resize46_crop41": np.asarray(resize_crop(tall)),
    },
    "case.safetensors",
    metadata={"pillow": PIL.__version__, "torchvision": torchvision.__version__},
)
