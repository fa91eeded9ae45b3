"""CIFAR-100 in miniature: the python archive's pickles byte by byte as Python 2 wrote them, and the binary archive's rows.

Two training images and one test image of three classes. Run in this folder: python export.py (needs numpy to check itself).
The real archives were written by Python 2, whose string opcodes Python 3 cannot write; hence the opcodes by hand.
"""

import pickle
import struct
from pathlib import Path

import numpy as np

FINE = ["apple", "dolphin", "whale"]
COARSE = ["aquatic_mammals", "fruit_and_vegetables"]
LABELS = {"train": [(1, 0), (2, 0)], "test": [(1, 0)]}
# `apple` belongs to CIFAR-FS' training classes, as `dolphin`; `whale` to its test classes.
LABELS["train"].append((0, 1))


class Writer:
    def __init__(self):
        self.out, self.memo = b"\x80\x02", 0

    def put(self):
        self.memo += 1
        self.out += b"q" + bytes([self.memo])

    def string(self, s):
        s = s.encode("latin1") if isinstance(s, str) else s
        self.out += b"U" + bytes([len(s)]) + s if len(s) < 256 else b"T" + struct.pack("<i", len(s)) + s
        self.put()

    def strings(self, items):
        self.out += b"]"
        self.put()
        self.out += b"("
        for item in items:
            self.string(item)
        self.out += b"e"

    def ints(self, items):
        self.out += b"]"
        self.put()
        self.out += b"(" + b"".join(b"K" + bytes([i]) for i in items) + b"e"

    def array(self, a):
        self.out += b"cnumpy.core.multiarray\n_reconstruct\n"
        self.put()
        self.out += b"cnumpy\nndarray\n"
        self.put()
        self.out += b"K\x00\x85"
        self.put()
        self.string("b")
        self.out += b"\x87"
        self.put()
        self.out += b"R"
        self.put()
        self.out += b"(K\x01" + b"".join(b"M" + struct.pack("<H", d) for d in a.shape) + b"\x86"
        self.put()
        self.out += b"cnumpy\ndtype\n"
        self.put()
        self.string("u1")
        self.out += b"K\x00K\x01\x87"
        self.put()
        self.out += b"R"
        self.put()
        self.out += b"(K\x03"
        self.string("|")
        self.out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        self.put()
        self.out += b"b\x89"
        self.string(a.tobytes())
        self.out += b"t"
        self.put()
        self.out += b"b"

    def dictionary(self, pairs):
        self.out += b"}"
        self.put()
        self.out += b"("
        for key, write in pairs:
            self.string(key)
            write()
        self.out += b"u."
        return self.out


def pixels(seed):
    # Smooth planes, so that a mixed-up channel or axis shows.
    y, x = np.mgrid[0:32, 0:32]
    return np.stack([x * 3 + seed, y * 5 + seed, (x + y) * 2 + 40 * seed]).astype(np.uint8)


python, binary = Path("cifar-100-python"), Path("cifar-100-binary")
python.mkdir(exist_ok=True)
binary.mkdir(exist_ok=True)
seed = 0
for part, labels in LABELS.items():
    images = np.stack([pixels(seed + i) for i in range(len(labels))])
    seed += len(labels)
    data = images.reshape(len(labels), -1)
    w = Writer()
    content = w.dictionary(
        [
            ("filenames", lambda: w.strings([f"picture_{i}.png" for i in range(len(labels))])),
            ("batch_label", lambda: w.string("training batch 1 of 1")),
            ("fine_labels", lambda: w.ints([f for f, _ in labels])),
            ("coarse_labels", lambda: w.ints([c for _, c in labels])),
            ("data", lambda: w.array(data)),
        ]
    )
    (python / part).write_bytes(content)
    back = pickle.loads(content, encoding="latin1")
    assert (back["data"] == data).all() and back["fine_labels"] == [f for f, _ in labels]
    rows = b"".join(bytes([c, f]) + image.tobytes() for (f, c), image in zip(labels, data))
    (binary / f"{part}.bin").write_bytes(rows)
w = Writer()
meta = w.dictionary([("fine_label_names", lambda: w.strings(FINE)), ("coarse_label_names", lambda: w.strings(COARSE))])
assert pickle.loads(meta)["fine_label_names"] == FINE
(python / "meta").write_bytes(meta)
(binary / "fine_label_names.txt").write_text("\n".join(FINE) + "\n\n")
(binary / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n\n")
