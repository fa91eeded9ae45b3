"""The installed command, and the torch that it runs with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import COMMAND, TINY, command
from PIL import Image

import camtrast

PACKAGE = Path(camtrast.__file__).parent
SITE = Path(torch.__file__).parents[1]


def with_torch(folder, version="2.11.0", without=()):
    """An environment in which Python finds another torch: links to the libraries of the installed one."""
    libraries = folder / "torch" / "lib"
    libraries.mkdir(parents=True)
    for library in (SITE / "torch" / "lib").glob("*.so*"):
        if not library.name.startswith(tuple(without)):
            (libraries / library.name).symlink_to(library)
    # What the libraries of a torch with CUDA need.
    if (SITE / "nvidia").exists():
        (folder / "nvidia").symlink_to(SITE / "nvidia")
    (folder / "torch" / "__init__.py").touch()
    (folder / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_the_package_is_installed_where_torch_is():
    assert PACKAGE.parent == SITE
    assert command("--version", ".")[1].startswith("camtrast 0.")


@pytest.mark.parametrize("version", ["2.10.0", "2.12.0+cpu", "2.110.0"])
def test_another_torch_is_refused_in_one_line(tmp_path, version):
    code, output, errors = command("--help", tmp_path, env=with_torch(tmp_path, version))
    assert (code, output) == (1, "")
    assert errors.startswith(f"camtrast: {tmp_path}/torch: torch {version} is installed, and camtrast needs 2.11; run ")
    assert errors.count("\n") == 1
    ask = "import camtrast; camtrast.run(['--help'])"
    done = subprocess.run([sys.executable, "-c", ask], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1 and f"NotUsable: {tmp_path}/torch: torch {version}" in done.stderr


def test_no_torch_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(camtrast.NotUsable, match="torch is not installed; run `pip install 'torch==2.11"):
        camtrast.run(["--version"])


def test_torch_may_be_in_another_folder(here):
    environment = with_torch(here / "elsewhere")
    shutil.copytree(PACKAGE, here / "alone" / "camtrast")
    environment["PYTHONPATH"] += f":{here / 'alone'}"
    code, _, errors = command(f"pretrain --method scratch {TINY} --out run".replace("--epochs 2", "--epochs 0"), here, env=environment)
    assert code == 0, errors
    assert (here / "run/backbone.safetensors").exists()


def test_a_torch_without_cuda_computes_on_the_cpu(here):
    environment = with_torch(here / "cpu", without=["libtorch_cuda", "libc10_cuda", "libcaffe2_nvrtc", "libtorch_nvshmem"])
    shutil.copytree(PACKAGE, here / "cpu" / "camtrast")
    training = f"pretrain --method supervised {TINY} --out run"
    code, _, errors = command(training, here, env=environment)
    assert code == 0, errors
    code, _, errors = command(training.replace("--device cpu", "--device cuda") + "2", here, env=environment)
    assert code == 1 and "libtorch_cuda.so" in errors, errors


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is without CUDA")
def test_cuda_of_the_installed_torch_is_loaded(here):
    training = f"pretrain --method supervised {TINY} --out run".replace("--device cpu", "--device cuda")
    code, _, errors = command(training, here)
    # The library was found in either case.
    assert code == 0 if torch.cuda.is_available() else "no NVIDIA driver answers" in errors, errors


def test_every_image_format_is_read(here):
    folder = here / "images" / "one"
    folder.mkdir(parents=True)
    image = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    for name in ["a.jpg", "b.png", "c.bmp", "d.webp", "e.ppm"]:
        image.save(folder / name)
    for compression in ["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd", "lzma"]:
        image.save(folder / f"{compression}.tif", compression=compression)
    image.convert("1").save(folder / "fax.tif", compression="group4")
    code, output, errors = command("data prepare imagefolder --from images --out pack --size 32", here)
    assert code == 0 and "13 images" in output, errors
    # A format that OpenCV may know, but its part in the package does not.
    image.save(folder / "f.jp2")
    (folder / "f.jp2").rename(folder / "f.png")
    code, _, errors = command("data prepare imagefolder --from images --out pack2 --size 32", here)
    assert code == 1 and "f.png: is not an image that can be decoded" in errors, errors


def test_the_programs_need_nothing_but_torch_and_the_c_libraries():
    for program in ["camtrast", "camtrast-torch"]:
        done = subprocess.run(["ldd", PACKAGE / "bin" / program], capture_output=True, text=True, check=True)
        assert "not found" not in done.stdout
        for line in done.stdout.splitlines():
            name, _, path = line.strip().partition(" => ")
            ours = path.startswith(str(SITE)) or str(SITE) in os.path.realpath(path.split(" ")[0])
            system = name.split(".so")[0].split("/")[-1].split(" ")[0]
            allowed = {"linux-vdso", "ld-linux-x86-64", "libc", "libm", "libdl", "librt", "libpthread", "libutil", "libgcc_s", "libstdc++"}
            assert ours or system in allowed, line


def test_the_command_is_the_program(here):
    assert COMMAND.exists()
    code, output, errors = command("data info train.pack", here)
    assert code == 0 and "400" in output, errors
    assert command("pretrain --method nothing", here)[0] == 2
