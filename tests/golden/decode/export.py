"""Small image files of kinds that programs read differently, and their pixels as PIL gives them: `Image.open(f).convert("RGB")`, as in torchvision's
data sets, and the same after `ImageOps.exif_transpose`, as in detectron2.

Run in this folder: python export.py (needs numpy, pillow, safetensors; Pillow's version goes into the metadata).
"""

import io
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps
from safetensors.numpy import save_file

rng = np.random.default_rng(0)
HEIGHT, WIDTH = 5, 7
GREY, GREY_ALPHA, COLOUR, COLOUR_ALPHA = 0, 4, 2, 6  # PNG's colour types


def encoded(image, kind, **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def png16(colour_type, values):
    """PIL writes no 16-bit PNG in colour."""
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(HEIGHT, -1))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sixteen(channels):
    # Dark, around the largest value of 8 bits, and bright.
    values = rng.integers(0, 65536, (HEIGHT, WIDTH, channels))
    values[0], values[1] = rng.integers(0, 256, (2, WIDTH, channels))
    values[2, :5] = np.array([0, 254, 255, 256, 65535])[:, None]
    return values.astype(np.uint16)


colour = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
picture = Image.fromarray(colour)
smooth = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), Image.BILINEAR)
grey16 = sixteen(1)[..., 0]
files = {
    "grey16.png": encoded(Image.fromarray(grey16), "PNG"),
    "grey16.tiff": encoded(Image.fromarray(grey16), "TIFF"),
    "grey16.pgm": encoded(Image.fromarray(grey16), "PPM"),
    "colour16.png": png16(COLOUR, sixteen(3)),
    "grey_alpha16.png": png16(GREY_ALPHA, sixteen(2)),
    "colour_alpha16.png": png16(COLOUR_ALPHA, sixteen(4)),
    "grey8.png": encoded(picture.convert("L"), "PNG"),
    "grey_alpha8.png": encoded(picture.convert("LA"), "PNG"),
    "black_and_white.png": encoded(picture.convert("1"), "PNG"),
    "palette.png": encoded(picture.convert("P", palette=Image.ADAPTIVE, colors=9), "PNG"),
    "colour_alpha8.png": encoded(Image.fromarray(np.dstack([colour, colour[..., 0]])), "PNG"),
}
for orientation in range(9):  # 0 is none of the eight that there are
    exif = Image.Exif()
    exif[0x0112] = orientation
    files[f"orientation{orientation}.jpg"] = encoded(smooth, "JPEG", quality=95, exif=exif)
exif = Image.Exif()
exif[0x0112] = 6
files["orientation6.png"] = encoded(picture, "PNG", exif=exif)
files["orientation6.tiff"] = encoded(picture, "TIFF", exif=exif)
files["orientation6.webp"] = encoded(picture, "WEBP", lossless=True, exif=exif)
files["broken_exif.jpg"] = encoded(smooth, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
files["no_exif.jpg"] = encoded(smooth, "JPEG", quality=95)

case = {}
for name, content in files.items():
    case[f"{name}/file"] = np.frombuffer(content, np.uint8)
    case[f"{name}/plain"] = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    image = Image.open(io.BytesIO(content))
    if name != "broken_exif.jpg":  # which PIL's exif_transpose fails on
        image = ImageOps.exif_transpose(image)
    case[f"{name}/upright"] = np.ascontiguousarray(np.asarray(image.convert("RGB")))
save_file(case, "case.safetensors", metadata={"pillow": PIL.__version__})
