"""Finds the program and torch's libraries, without importing torch."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

TORCH = "2.11"
BIN = Path(__file__).resolve().parent / "bin"


class NotUsable(Exception):
    """torch is missing, or of another version than the program is built for."""


def torch_folder() -> Path:
    """The folder of the installed torch, whose version is checked.

    Raises NotUsable, with one line that says what to install.
    """
    spec = importlib.util.find_spec("torch")
    remedy = f"run `pip install 'torch=={TORCH}.*'` in the environment of {sys.executable}"
    if spec is None or not spec.submodule_search_locations:
        raise NotUsable(f"torch is not installed; {remedy}")
    folder = Path(spec.submodule_search_locations[0])
    try:
        text = (folder / "version.py").read_text()
    except OSError:
        text = ""
    found = re.search(r"^__version__ *= *['\"]([^'\"]+)", text, re.MULTILINE)
    version = found[1] if found else "of an unknown version"
    if not version.startswith(TORCH + "."):
        raise NotUsable(f"{folder}: torch {version} is installed, and camtrast needs {TORCH}; {remedy}")
    return folder


def program() -> tuple[Path, dict[str, str]]:
    """The program, and the environment that it needs. Raises NotUsable."""
    folder, environment = torch_folder(), dict(os.environ)
    # The program finds torch beside its own package; elsewhere (a user's or the system's packages) it must be named.
    if folder.resolve().parent != BIN.parents[1]:
        paths = [str(folder / "lib"), environment.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    return BIN / "camtrast", environment


def main() -> None:
    """The command `camtrast`: becomes the program."""
    try:
        path, environment = program()
    except NotUsable as problem:
        sys.exit(f"camtrast: {problem}")
    os.execve(path, ["camtrast", *sys.argv[1:]], environment)
