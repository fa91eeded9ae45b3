"""Runs the program, and shows its progress in a notebook."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from ._program import program

# `pretraining: 120/400 in 8s, 20s left`: the next one takes its place.
PROGRESS = re.compile(r"[^:]+: \d+/\d+ in ")


class Failed(RuntimeError):
    """A command failed; the text is its last line on standard error."""


def run(arguments: Sequence[str | os.PathLike[str]], *, progress: bool = True) -> str:
    """Runs a command of camtrast, `run(["data", "info", "train.safetensors"])`, and returns what it printed.

    Progress and notes go to standard error; in a notebook they are shown below the cell, a bar of progress in one
    line. With `progress=False` they are not shown. An interrupt saves the state of a training, as Ctrl-C does, and is
    then raised as KeyboardInterrupt.

    Raises Failed when the command fails, with the line that says why, and NotUsable without torch 2.11.
    """
    path, environment = program()
    command = [str(path), *(os.fspath(argument) for argument in arguments)]
    notebook = progress and _in_notebook()
    if notebook:
        environment["CAMTRAST_LINE_SECONDS"] = "0.5"
    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # An interrupt reaches the child through us, once: the second would end it without saving.
        start_new_session=True,
    )
    assert child.stdout is not None and child.stderr is not None
    printed: list[str] = []
    reader = threading.Thread(target=printed.extend, args=(child.stdout,))
    reader.start()
    show = _notebook_lines() if notebook else _terminal_lines() if progress else _no_lines
    last = ""
    lines: Iterable[str] = child.stderr
    try:
        for line in lines:
            last = line.rstrip("\n") or last
            show(line.rstrip("\n"))
        child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    finally:
        reader.join()
    if child.returncode != 0:
        raise Failed(last.removeprefix("camtrast: ") or f"exit code {child.returncode}")
    return "".join(printed)


def _no_lines(line: str) -> None:
    pass


def _terminal_lines() -> Callable[[str], None]:
    return lambda line: print(line, file=sys.stderr, flush=True)


def _notebook_lines() -> Callable[[str], None]:
    from IPython.display import DisplayHandle

    shown: list[DisplayHandle] = []

    def show(line: str) -> None:
        moving = PROGRESS.match(line) is not None
        if not moving:
            shown.clear()
            print(line)
        elif shown:
            shown[0].update(_Line(line))
        else:
            shown.append(DisplayHandle())
            shown[0].display(_Line(line))

    return show


class _Line:
    """Plain text that replaces itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: IPython on a terminal has the terminal's own bar."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
