"""What the cases with detectron2's names share."""


def to_detectron2(name):
    """detectron2's name of a tensor that torchvision calls `name`: tools/convert-torchvision-to-d2.py of detectron2."""
    if "layer" not in name:
        name = "stem." + name
    for t in [1, 2, 3, 4]:
        name = name.replace(f"layer{t}", f"res{t + 1}")
    for t in [1, 2, 3]:
        name = name.replace(f"bn{t}", f"conv{t}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
