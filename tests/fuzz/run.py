"""Mutated inputs for the real executable, a quarter of an hour by default: `make fuzz`, `make fuzz SECONDS=3600 SEED=7`.

Every kind of file that people bring is damaged or made odd, and a command that reads it is run. It may refuse (exit 1 or 2, one line that begins with
`camtrast: `) or do its work (exit 0), and nothing else: no panic, no signal, no more than 20 s or 2 GB, no NaN in what it answers, no network or state
with a NaN in it accepted. Each input that breaks this is kept in target/fuzz/failures/, and the command that repeats it is printed.

The executable is target/release/camtrast, built if need be, or what the environment variable CAMTRAST names.
"""

import argparse

import json
import os
import random
import re
import resource
import shlex
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import mutate

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2 << 30  # bytes
PLAIN = "--device cpu --threads 1"
CLASSES = "--classes clock,tree,mushroom,chair"
VOC = f"--voc world/VOCdevkit --test 2007:test {CLASSES}"
DETECTOR = (
    "--preset moco --batch-size 2 --lr 0.001 --warmup-steps 2 --train-sides 48,64 --test-side 64 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 "
    "--train-proposals 100,30 --test-proposals 100,30 --fpn-channels 8 --head-features 16 --score-threshold 0"
)
PRETRAIN = (
    "pretrain --method moco --data train.pack --arch resnet18 --width 8 --stem small --batch-size 16 --epochs 1 --save-every 10 --queue-size 32 "
    f"--bn-splits 2 --out moco {PLAIN}"
)

# What is drawn, packed and trained before anything is damaged.
PREPARE = [
    "data synth --out world --size 32 --images-per-class 8 --evaluation-images-per-class 20 --scenes 4 --test-scenes 3 --scene-size 64 --streets 2 "
    "--val-streets 2 --street-size 32",
    "data prepare miniimagenet --from world --out train.pack --size 32 --split train",
    "data prepare miniimagenet --from world --out test.pack --size 32 --split test",
    f"pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out scratch {PLAIN}",
    PRETRAIN,
    f"detection train --voc world/VOCdevkit --train 2007:trainval --test 2007:test {CLASSES} --checkpoint scratch/backbone.safetensors {DETECTOR} "
    f"--arch c4 --steps 1 --pictures 0 --out detector {PLAIN}",
    "segmentation train --cityscapes world --checkpoint scratch/backbone.safetensors --steps 1 --batch-size 2 --crop 32 --head-channels 8 --pictures 0 "
    f"--out segmenter {PLAIN}",
]
RECIPE = """title = "fuzz"
seeds = [0, 1]
representation = true
runs = [
  { name = "scratch", method = "scratch", published = { "1-shot" = 55.31 } },
  { name = "moco", method = "moco", queue-size = 64, key-momentum = 0.97 },
]
[data]
train = "train.pack"
test = { novel = "test.pack" }
[pretrain]
arch = "resnet18-w8"
threads = 1
epochs = 1
batch-size = 16
lr = 0.06
[fewshot]
episodes = 20
[expect]
moco = { "5-shot" = [60.0, 40.0] }
"""

TEXT = [mutate.text, mutate.raw]
JSON = [mutate.structure, mutate.text, mutate.raw]
TENSORS = [mutate.tensors, mutate.tensors, mutate.not_a_number, mutate.raw]
PNG = [mutate.png, mutate.png, mutate.raw]
SCORE = "segmentation score --out out"
# name: files of which one is damaged, how, and commands of which one is run.
TARGETS = {
    "voc-xml": ("world/VOCdevkit/VOC2007/Annotations/*.xml", TEXT, [
        f"detection score --detections detector/detections {VOC} --out out",
        f"detection score --detections detector/detections {VOC} --out out --skip-bad",
        "data info world/VOCdevkit --json",
    ]),
    "voc-list": ("world/VOCdevkit/VOC2007/ImageSets/Main/test.txt", TEXT, [f"detection score --detections detector/detections {VOC} --out out"]),
    "coco-instances": ("detector/instances.json", JSON, [
        "detection score --detections detector/detections.json --coco detector/instances.json --out out",
        "detection score --detections detector/detections.json --coco detector/instances.json --out out --skip-bad",
    ]),
    "voc-results": ("detector/detections/*.txt", TEXT, [
        f"detection score --detections detector/detections {VOC} --out out",
        f"detection score --detections detector/detections {VOC} --out out --skip-bad",
    ]),
    "coco-results": ("detector/detections.json", JSON, [
        f"detection score --detections detector/detections.json {VOC} --out out",
        "detection score --detections detector/detections.json --coco detector/instances.json --out out --skip-bad",
    ]),
    "label-predictions": ("segmenter/predictions/*.png", PNG, [f"{SCORE} --ground-truth world/gtFine/val --predictions segmenter/predictions"]),
    "label-truth": ("world/gtFine/val/*/*_labelIds.png", PNG, [f"{SCORE} --ground-truth world/gtFine/val --predictions segmenter/predictions"]),
    "street": ("world/leftImg8bit/val/*/*.png", PNG, [
        f"segmentation eval --run segmenter --cityscapes world --pictures 0 --no-predictions --out out {PLAIN}",
    ]),
    "image": ("world/images/*.jpg", [mutate.raw], [
        "data prepare miniimagenet --from world --out out.pack --size 32 --split train",
        "data prepare miniimagenet --from world --out out.pack --size 32 --split train --skip-bad",
    ]),
    "recipe": ("recipe.toml", TEXT, ["suite run recipe.toml --out out --dry-run"]),
    "pack": ("test.pack", [mutate.tensors, mutate.tensors, mutate.raw], [
        "data info test.pack --json",
        f"fewshot eval --checkpoint scratch/backbone.safetensors --data test.pack --episodes-count 2 --out out {PLAIN}",
    ]),
    "backbone": ("scratch/backbone.safetensors", TENSORS, [
        f"fewshot eval --checkpoint scratch/backbone.safetensors --data test.pack --episodes-count 2 --out out {PLAIN}",
    ]),
    "detector": ("detector/detector.safetensors", TENSORS, [f"detection eval --run detector {VOC} --pictures 0 --out out {PLAIN}"]),
    "segmenter": ("segmenter/segmenter.safetensors", TENSORS, [
        f"segmentation eval --run segmenter --cityscapes world --pictures 0 --no-predictions --out out {PLAIN}",
    ]),
    "features": ("features.safetensors", TENSORS, ["fewshot score --features features.safetensors --episodes episodes.json --out out/metrics.json"]),
    "episodes": ("episodes.json", JSON, ["fewshot score --features features.safetensors --episodes episodes.json --out out/metrics.json"]),
    "state": ("moco/state.safetensors", TENSORS, [PRETRAIN]),
}


def executable():
    given = os.environ.get("CAMTRAST")
    path = Path(given).resolve() if given else ROOT / "target" / "release" / "camtrast"
    if not given and not path.is_file():
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    return path


class Done:
    """A command that ended: exit status (negative for a signal), output, seconds, and the most memory it held in bytes."""

    def __init__(self, program, arguments, folder, limit):
        begun = time.monotonic()
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        environment.pop("RUST_BACKTRACE", None)
        # Far above MEMORY, for libtorch reserves what it never touches: it only saves the machine.
        most = lambda: resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        child = subprocess.Popen([program, *shlex.split(arguments)], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, preexec_fn=most)
        self.late = False
        watch = threading.Timer(limit, self.stop, [child])
        watch.start()
        errors = []
        reader = threading.Thread(target=lambda: errors.append(child.stderr.read()))
        reader.start()
        self.stdout = child.stdout.read().decode("utf-8", "replace")
        reader.join()
        _, status, usage = os.wait4(child.pid, 0)
        watch.cancel()
        child.returncode = self.code = os.waitstatus_to_exitcode(status)
        self.stderr = errors[0].decode("utf-8", "replace")
        self.seconds, self.memory = time.monotonic() - begun, usage.ru_maxrss * 1024

    def stop(self, child):
        self.late = True
        child.kill()


def fault(done, mutation, folder):
    """What is wrong with how a command ended, if anything."""
    if done.late:
        return f"was still running after {done.seconds:.0f} s"
    if done.code < 0:
        return f"ended by signal {-done.code}"
    for mark in ["panicked", "internal error", "RUST_BACKTRACE", "terminate called"]:
        if mark in done.stderr:
            return mark
    if done.code not in (0, 1, 2):
        return f"exit status {done.code}"
    if done.code == 1 and sum(line.startswith("camtrast: ") for line in done.stderr.splitlines()) != 1:
        return "no single line that says what is wrong"
    if done.memory > MEMORY:
        return f"took {done.memory / 2**30:.1f} GB"
    if done.code == 0 and mutation is mutate.not_a_number:
        return "a tensor with a NaN or an infinity was accepted"
    metrics = folder / "out" / "metrics.json"
    # Other commands print names from the input, which may be NaN.
    if done.code == 0 and metrics.is_file():
        if re.search(r"\b(NaN|nan|inf)\b", done.stdout):
            return "a NaN or an infinity was printed"
        # A NaN becomes null in JSON.
        bad = [key for key, value in json.loads(metrics.read_text()).items() if value is None]
        return f"{bad[0]} is NaN" if bad else None
    return None


def features(folder):
    """Features of 6 classes and episodes over them, as `fewshot score` takes them from any program."""
    images = range(36)
    values = struct.pack(f"<{36 * 4}f", *(float(image * side % 7) for image in images for side in range(1, 5)))
    header = {"features": {"dtype": "F32", "shape": [36, 4], "data_offsets": [0, 576]}, "labels": {"dtype": "I64", "shape": [36], "data_offsets": [576, 864]}}
    (folder / "features.safetensors").write_bytes(mutate.signed(header, bytearray(values + struct.pack("<36q", *(image // 6 for image in images)))))
    episode = {"support": [[0], [7], [14]], "query": [[1, 2], [8, 9], [15, 16]]}
    (folder / "episodes.json").write_text(json.dumps({"ways": 3, "shots": 1, "queries": 2, "episodes": [episode, episode]}))


def clean(folder):
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out.pack").unlink(missing_ok=True)


def keep(kept, folder, path, data, command):
    """Leaves what repeats a failure: a copy of the folder with the damaged file in it, and the command."""
    shutil.copytree(folder, kept / "place", symlinks=True)
    (kept / "place" / path).write_bytes(data)
    (kept / "command.txt").write_text(f"{command}\n{path} is damaged\n")


def main():
    parser = argparse.ArgumentParser(description="Damaged and odd inputs for the real executable.")
    parser.add_argument("--seconds", type=float, default=900, help="how long to go on")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="what the damage is drawn from; printed")
    parser.add_argument("--only", default="", help="parts of names of targets, by commas: " + ", ".join(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "fuzz", help="folder to work in, emptied first; failures are kept in it")
    parser.add_argument("--limit", type=float, default=20, help="seconds that a command may take; more for a busy machine or a debug build")
    flags = parser.parse_args()
    targets = {name: target for name, target in TARGETS.items() if any(part in name for part in flags.only.split(","))}
    program, draw = executable(), random.Random(flags.seed)
    print(f"fuzz: {program}, {flags.seconds:.0f} s, seed {flags.seed}", flush=True)
    out = flags.out.resolve()
    folder = out / "place"
    shutil.rmtree(out, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE)
    features(folder)
    for line in PREPARE:
        done = Done(program, line, folder, 600)
        if done.code != 0:
            sys.exit(f"fuzz: camtrast {line}\nends with {done.code}: {done.stderr}")
    # A damaged state would give way to it, as it should.
    (folder / "moco" / "state.previous.safetensors").unlink()

    # The undamaged files are accepted, or a refusal would say nothing.
    for name, (_, _, commands) in targets.items():
        for command in commands:
            clean(folder)
            done = Done(program, command, folder, 600)
            if done.code != 0 or fault(done, None, folder):
                sys.exit(f"fuzz: {name}: camtrast {command}\nends with {done.code} without any damage: {done.stderr}")

    runs, accepted, failures, end = Counter(), Counter(), Counter(), time.monotonic() + flags.seconds
    said = time.monotonic()
    while time.monotonic() < end:
        name = draw.choice(list(targets))
        pattern, mutations, commands = targets[name]
        path = draw.choice(sorted(folder.glob(pattern)))
        mutation, command = draw.choice(mutations), draw.choice(commands)
        whole = path.read_bytes()
        data = mutation(whole, draw)
        run = folder / "moco"
        saved = {file: file.read_bytes() for file in run.iterdir() if file.is_file()} if name == "state" else {}
        try:
            clean(folder)
            path.write_bytes(data)
            done = Done(program, command, folder, flags.limit)
            what = fault(done, mutation, folder)
        finally:
            path.write_bytes(whole)
            for file, content in saved.items():
                file.write_bytes(content)
        runs[name] += 1
        if time.monotonic() > said + 60:
            said = time.monotonic()
            print(f"fuzz: {sum(runs.values())} inputs, {sum(failures.values())} failed", flush=True)
        accepted[name] += done.code == 0
        if what:
            failures[name] += 1
            kept = out / "failures" / f"{sum(failures.values()):03}-{name}"
            keep(kept, folder, path.relative_to(folder), data, command)
            print(f"\nFAILED {name}, {mutation.__name__}: {what}\n  {done.stderr.strip()[-600:]}\n  cd {kept / 'place'} && {program} {command}", flush=True)
    for name in targets:
        print(f"{name:18} {runs[name]:6} inputs {accepted[name]:6} accepted {failures[name]:4} failed")
    print(f"fuzz: {sum(runs.values())} inputs, {sum(failures.values())} failed, seed {flags.seed}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
