"""The Python module: runs, numbers, backbones."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision
from conftest import TINY, command

import camtrast

RECIPE = """
title = "Two runs"
seeds = [0, 1]
runs = [{ name = "scratch", method = "scratch" }, { name = "supervised", method = "supervised" }]
[data]
train = "train.pack"
test = { novel = "test.pack" }
[fewshot]
episodes = 20
[pretrain]
arch = "resnet18-w8-small"
batch-size = 16
epochs = 1
threads = 1
"""


def pretrain(flags, out):
    camtrast.run(["pretrain", *f"--method scratch --data train.pack {flags} --device cpu --out {out}".split()])
    return f"{out}/backbone.safetensors"


def test_a_command_returns_what_it_printed_and_shows_its_progress(here, capfd):
    printed = camtrast.run(["data", "info", Path("train.pack")])
    assert printed == command("data info train.pack", here)[1] != ""
    camtrast.run(f"pretrain --method supervised {TINY} --out run".split())
    assert "training: 50/50" in capfd.readouterr().err
    camtrast.run(f"pretrain --method supervised {TINY} --out again".split(), progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_failed_command_says_why(here):
    with pytest.raises(camtrast.Failed, match="^none.pack: does not exist; name a pack"):
        camtrast.run("data info none.pack".split())


def test_an_interrupt_saves_the_state(here):
    line = f"pretrain --method supervised {TINY} --out run".replace("--epochs 2", "--epochs 400").split()
    child = subprocess.Popen([sys.executable, "-c", f"import camtrast; camtrast.run({line})"], stderr=subprocess.PIPE, text=True)
    while not (here / "run/log.jsonl").exists() or "step" not in (here / "run/log.jsonl").read_text():
        time.sleep(0.1)
    child.send_signal(2)
    errors = child.communicate()[1]
    assert "KeyboardInterrupt" in errors
    assert (here / "run/state.safetensors").exists()


def test_numbers_of_a_run_and_of_a_suite(here, monkeypatch):
    (here / "recipe.toml").write_text(RECIPE)
    camtrast.run("suite run recipe.toml --out suite --device cpu".split())
    table = camtrast.results("suite")
    one = table[(table.run == "supervised") & (table.seed == 1) & (table.metric == "fewshot/5way1shot/mean")]
    numbers = camtrast.metrics("suite/runs/supervised-s1/fewshot")
    assert one.value.item() == numbers["fewshot/5way1shot/mean"] > 0.2
    assert set(table.run) == {"scratch", "supervised"}
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = camtrast.results("suite")
    assert isinstance(rows, list) and rows[0] == table.to_dict("records")[0]
    with pytest.raises(FileNotFoundError, match="run `camtrast report here` first"):
        camtrast.results("here")
    with pytest.raises(FileNotFoundError, match="the run has not ended"):
        camtrast.metrics("here")


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_a_backbone_is_torchvisions_network(here, arch):
    model = camtrast.load_backbone(pretrain(f"--arch {arch}", "run"))
    expected = getattr(torchvision.models, arch)().eval()
    width = expected.fc.in_features
    expected.fc = torch.nn.Identity()
    expected.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), expected(images))
        assert model(images).shape == (2, width)
    assert model.metadata["arch"] == arch and not model.training


@pytest.mark.parametrize("flags, features, map_size", [
    ("--arch resnet18 --width 8 --stem small", 64, 8), ("--arch resnet50 --width 16", 512, 2), ("--arch resnet18 --stem v1c", 512, 2)])
def test_other_widths_and_stems(here, flags, features, map_size):
    model = camtrast.load_backbone(pretrain(flags, "run"))
    maps = []
    model.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output.shape))
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, features)
    assert maps == [(2, features, map_size, map_size)]


def test_other_files_are_refused(here):
    with pytest.raises(ValueError, match="train.pack: is not a backbone of camtrast; convert it with `camtrast checkpoint import`"):
        camtrast.load_backbone("train.pack")
