"""A small drawn world and its packs, made once by the installed command."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("camtrast")
WORLD = ("data synth --out world --size 32 --images-per-class 8 --evaluation-images-per-class 20 --scenes 2 "
         "--test-scenes 2 --scene-size 64 --streets 2 --val-streets 2 --street-size 32")
TINY = "--data train.pack --arch resnet18 --width 8 --stem small --batch-size 16 --epochs 2 --device cpu --threads 1"


def command(line, folder, program=COMMAND, **options):
    """Exit code, standard output and standard error of a command line."""
    done = subprocess.run([program, *line.split()], cwd=folder, capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    lines = [WORLD] + [f"data prepare miniimagenet --from world --out {split}.pack --size 32 --split {split}"
                       for split in ["train", "test"]]
    for line in lines:
        code, _, errors = command(line, folder)
        assert code == 0, errors
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A fresh working directory with the packs."""
    for pack in ["train.pack", "test.pack"]:
        (tmp_path / pack).symlink_to(world / pack)
    monkeypatch.chdir(tmp_path)
    return tmp_path
