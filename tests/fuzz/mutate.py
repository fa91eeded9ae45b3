"""Damaged and odd copies of files: each function takes a file's bytes and a random.Random and returns other bytes.

Some keep the file's checks good (the checksums of a safetensors file, the CRCs of a PNG), so that what lies behind them is reached.
"""

import copy
import hashlib
import json
import re
import struct
import zlib

NUMBERS = ["-1", "0", "1", "-5", "0.5", "1e-320", "1e308", "-1e308", "1e999", "NaN", "nan", "inf", "-Infinity", "65536", "4294967296",
           "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "1" * 400, "0x10", "1_000", "", "é"]
VALUES = [-5, 0, 1, -1, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**53 + 1, 2**63, 2**64 - 1, 2**64, 10**30, True, None, "", "x", "\0", "../..",
          "é" * 300, [], {}, [[]], [0] * 5]


def raw(data, random):
    """Bytes changed, cut out, repeated or put in, without any regard for the format."""
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 8])):
        at = random.randrange(len(data) + 1)
        length = random.choice([1, 2, 4, 16, 256, len(data) // 2])
        kind = random.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at : at + 1] = bytes([random.choice([0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x3C])])
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = random.randbytes(min(length, 64))
        else:
            del data[at:]
    return bytes(data)


def text(data, random):
    """Numbers, words and lines of a text exchanged, repeated or left out."""
    data = data.decode("utf-8", "replace")
    for _ in range(random.choice([1, 1, 2, 5])):
        kind = random.randrange(6)
        numbers = list(re.finditer(r"-?\d+(\.\d+)?(e-?\d+)?", data))
        words = list(re.finditer(r"[\w.]+", data))
        lines = data.splitlines(keepends=True)
        if kind <= 1 and numbers:
            data = replaced(data, random.choice(numbers).span(), random.choice(NUMBERS))
        elif kind == 2 and words:
            data = replaced(data, random.choice(words).span(), random.choice(words).group())
        elif kind == 3 and words:
            data = replaced(data, random.choice(words).span(), random.choice(NUMBERS))
        elif lines:
            at = random.randrange(len(lines))
            lines[at : at + 1] = [] if kind == 4 else [lines[at]] * random.choice([2, 3, 500])
            data = "".join(lines)
    return data.encode()


def replaced(text, span, by):
    return text[: span[0]] + by + text[span[1] :]


def structure(data, random):
    """A JSON value with parts exchanged for odd ones, left out or repeated."""
    value = json.loads(data)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        value = changed_value(value, random)
    nested = random.randrange(60) == 0
    return ("[" * 100000 if nested else json.dumps(value)).encode()


def changed_value(value, random):
    places = list(containers(value))
    if not places:
        return random.choice(VALUES)
    holder = random.choice(places)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = random.randrange(5)
    if kind <= 2:
        holder[key] = copy.deepcopy(random.choice(VALUES))
    elif kind == 3:
        del holder[key]
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(random.choice(list(holder.values())))
    return value


def containers(value):
    if isinstance(value, (dict, list)) and value:
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from containers(child)


def png(data, random):
    """Chunks left out, repeated, exchanged or changed, or other pixels; the CRCs are good again."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append([data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])])
        at += 12 + length
    kind, place = random.randrange(6), random.randrange(len(chunks))
    if kind == 0:
        del chunks[place]
    elif kind == 1:
        chunks.insert(random.randrange(len(chunks)), copy.deepcopy(chunks[place]))
    elif kind == 2 and chunks[0][1]:
        field = random.choice([0, 0, 4, 4, 8, 9, 10, 11, 12])
        value = random.choice([0, 1, 2, 3, 4, 8, 16, 255, 65535, 2**31 - 1, 2**32 - 1])
        chunks[0][1][field : field + 4 if field < 8 else field + 1] = struct.pack(">I", value) if field < 8 else bytes([value & 255])
    elif kind == 3 and chunks[place][1]:
        chunks[place][1] = bytearray(raw(bytes(chunks[place][1]), random))
    elif kind == 4:
        chunks.insert(1, [random.choice([b"eXIf", b"tRNS", b"PLTE", b"gAMA"]), bytearray(random.randbytes(random.randrange(40)))])
    else:
        pixels = bytearray(zlib.decompress(b"".join(bytes(body) for name, body in chunks if name == b"IDAT")))
        for _ in range(20):
            pixels[random.randrange(len(pixels))] = random.randrange(256)
        chunks = [c for c in chunks if c[0] != b"IDAT"]
        chunks.insert(len(chunks) - 1, [b"IDAT", bytearray(zlib.compress(bytes(pixels)))])
    crc = lambda name, body: struct.pack(">I", zlib.crc32(name + bytes(body)))
    return data[:8] + b"".join(struct.pack(">I", len(body)) + name + bytes(body) + crc(name, body) for name, body in chunks)


def tensors(data, random):
    """Metadata, shapes, types, places or elements of a safetensors file changed; the checksums are good again."""
    header, body = parts(data)
    named = [name for name in header if name != "__metadata__"]
    for _ in range(random.choice([1, 1, 2])):
        kind, name = random.randrange(7), random.choice(named)
        metadata, entry = header.get("__metadata__", {}), header.get(name)
        if kind <= 1 and metadata:
            key = random.choice(list(metadata))
            how = random.choice([lambda text: random.choice(NUMBERS), lambda text: random.choice(list(metadata.values())), lambda text: odd(text, random)])
            metadata[key] = how(metadata[key])
        elif kind == 2 and metadata:
            del metadata[random.choice(list(metadata))]
        elif kind == 3 and entry:
            shape = entry["shape"]
            random.choice([shape.reverse, lambda: shape.append(1), lambda: shape.append(0), lambda: shape and shape.pop(),
                           lambda: shape.insert(0, random.choice([0, 2, 2**31, 2**63 - 1]))])()
        elif kind == 4 and entry:
            entry["dtype"] = random.choice(["F32", "I64", "I32", "U8", "F16", "BF16", "F64", "BOOL", "F8_E4M3"])
        elif kind == 5 and entry:
            header[random.choice([name + "x", "bias", ""])] = header.pop(name)
        elif entry:
            begin, end = entry["data_offsets"]
            if end - begin >= 8:
                at = begin + random.randrange((end - begin) // 8) * 8
                body[at : at + 8] = random.choice([b"\0" * 8, b"\xff" * 8, struct.pack("<q", -1), struct.pack("<q", 2**62), struct.pack("<ff", 1e38, -1e38)])
    return signed(header, body)


def not_a_number(data, random):
    """A NaN or an infinity in a tensor of floats, the checksums good again: whatever reads it has to refuse."""
    header, body = parts(data)
    floats = [entry for name, entry in header.items() if name != "__metadata__" and entry["dtype"] == "F32" and entry["data_offsets"][1] > entry["data_offsets"][0]]
    begin, end = random.choice(floats)["data_offsets"]
    at = begin + random.randrange((end - begin) // 4) * 4
    body[at : at + 4] = struct.pack("<f", random.choice([float("nan"), float("inf"), float("-inf")]))
    return signed(header, body)


def odd(value, random):
    try:
        return structure(value.encode(), random).decode()
    except ValueError:
        return text(value.encode(), random).decode()


def parts(data):
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def signed(header, body):
    """As common/src/tensor_file.rs checks it."""
    metadata = header.setdefault("__metadata__", {})
    whole = hashlib.sha256()
    for name in sorted(name for name in header if name != "__metadata__"):
        entry = header[name]
        begin, end = entry["data_offsets"]
        whole.update(f"{name}\0{entry['dtype']}\0{entry['shape']}\0".encode() + bytes(body[begin:end]))
    metadata["checksum"] = whole.hexdigest()
    metadata.pop("metadata_checksum", None)
    said = "".join(f"{key}\0{metadata[key]}\0" for key in sorted(metadata))
    metadata["metadata_checksum"] = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + bytes(body)
