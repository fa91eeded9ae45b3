"""MoCo v2's augmentation with PIL and torchvision, images per second of one view at 84 pixels, one process.

    python benches/peers/augment.py        beside        cargo bench -p camtrast-common --bench augment
"""

import time

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image, ImageFilter


class GaussianBlur:
    """moco/loader.py"""

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(1).uniform_(0.1, 2.0))))


def main():
    torch.set_num_threads(1)
    normalise = T.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    supervised = T.Compose(
        [T.RandomCrop(84, padding=8), T.ColorJitter(0.4, 0.4, 0.4), T.RandomHorizontalFlip(), T.ToTensor(), normalise]
    )
    moco = T.Compose(
        [
            T.RandomResizedCrop(84, scale=(0.2, 1.0)),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.RandomApply([GaussianBlur()], p=0.5),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            normalise,
        ]
    )
    images = [Image.fromarray(i) for i in np.random.default_rng(0).integers(0, 256, (128, 84, 84, 3), dtype=np.uint8)]
    for name, transform in [("supervised", supervised), ("moco v2", moco)]:
        rates = []
        for _ in range(7):
            begun = time.perf_counter()
            torch.stack([transform(image) for image in images])
            rates.append(len(images) / (time.perf_counter() - begun))
        rates.sort()
        print(f"{name}: {rates[3]:.0f} images/s (median of 7; {rates[0]:.0f} to {rates[-1]:.0f})")


if __name__ == "__main__":
    main()
