"""The instructions of Containerfile, one after the other, in clean Debian roots made by debootstrap: for machines without
a builder of containers. Needs root.

    make container-test                                  # everything: compiles in the root, half an hour and 8 GB
    python3 tests/container/run.py --installed FOLDER    # FOLDER is what the first stage leaves in /installed
    python3 tests/container/run.py --arg CUDA=1

Then `camtrast demo` runs in the last root, without network. Rust comes from this machine, in place of the image's.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"


# Mounts are made for one command, in a namespace of its own: none outlives it, and none is seen from outside.
DEVICES = {"null": "1 3", "zero": "1 5", "full": "1 7", "random": "1 8", "urandom": "1 9", "tty": "5 0"}


class Stage:
    """A root file system, and what the instructions have set so far."""

    def __init__(self, folder, arguments):
        self.folder, self.variables, self.workdir, self.mounts = folder, dict(arguments), "/", []
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, folder], check=True, stdout=subprocess.DEVNULL)
        for name, numbers in DEVICES.items():
            device = folder / "dev" / name
            if not device.exists():
                subprocess.run(["mknod", "-m", "666", device, "c", *numbers.split()], check=True)

    def mount(self, source, place, writable=False):
        target = self.folder / place.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        self.mounts.append(f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(target))}")
        if not writable:
            self.mounts.append(f"mount -o remount,bind,ro {shlex.quote(str(target))}")

    def run(self, command, network=True):
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", **self.variables}
        root = shlex.quote(str(self.folder))
        inside = f"cd {shlex.quote(self.workdir)}; {command}"
        steps = [*self.mounts, f"mount -t proc proc {root}/proc", f"exec chroot {root} /bin/sh -ec {shlex.quote(inside)}"]
        alone = [] if network else ["--net"]
        line = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *alone, "/bin/sh", "-ec", "; ".join(steps)]
        return subprocess.run(line, env={**environment, "PATH": os.environ["PATH"] + ":" + environment["PATH"]})


def rust(stage):
    """This machine's Rust, compiler, git, and ways to the package registries, in place of the rust image."""
    # At their own places, because toolchains may be links. Cargo keeps what it downloads; nothing else is writable.
    for variable, folder, writable in [("RUSTUP_HOME", ".rustup", False), ("CARGO_HOME", ".cargo", True)]:
        path = os.environ.get(variable, str(Path.home() / folder))
        stage.mount(path, path, writable)
        stage.variables[variable] = path
    stage.variables["PATH"] = f"{stage.variables['CARGO_HOME']}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    for name, value in os.environ.items():
        if (name.startswith("PIP_") and name != "PIP_FIND_LINKS") or name.lower().endswith("_proxy"):
            stage.variables[name] = value
    # A copy under a name of its own: the root's ca-certificates writes its file when it is installed.
    certificates = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    if certificates.exists():
        shutil.copy(certificates, stage.folder / "etc" / "machine-certificates.crt")
        for variable in ["SSL_CERT_FILE", "PIP_CERT", "CARGO_HTTP_CAINFO", "GIT_SSL_CAINFO"]:
            stage.variables[variable] = "/etc/machine-certificates.crt"
    packages = "apt-get update -qq && apt-get install -y -qq --no-install-recommends git gcc g++ make python3 python3-pip >/dev/null"
    assert stage.run(packages).returncode == 0


def instructions():
    for line in (ROOT / "Containerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split(None, 1)


def copy(stage, words, stages, installed):
    source = next((word.split("=")[1] for word in words if word.startswith("--from=")), None)
    [what, target] = [word for word in words if not word.startswith("--")]
    if source is None:
        destination = stage.folder / stage.workdir.lstrip("/")
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
        for name in filter(None, files):
            file = destination / os.fsdecode(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / os.fsdecode(name), file)
        return
    origin = installed if installed else stages[source].folder / what.lstrip("/")
    shutil.copytree(origin, stage.folder / target.lstrip("/"), symlinks=True, dirs_exist_ok=True)


def build(folder, arguments, installed):
    """Runs the instructions; the last stage, and its ENTRYPOINT."""
    stages, stage, entry, skipped = {}, None, None, False
    for word, rest in instructions():
        if word == "FROM":
            image, *name = rest.replace(" AS ", " ").split()
            skipped = installed is not None and image.startswith("rust")
            if not skipped:
                stage = Stage(folder / image.split(":")[0], arguments)
                stages[name[0] if name else "last"] = stage
                if image.startswith("rust"):
                    rust(stage)
        if word == "FROM" or skipped or word == "ARG":
            continue
        print(f"{word} {rest}", flush=True)
        begun = time.time()
        if word == "RUN":
            if stage.run(rest).returncode:
                sys.exit(f"container test: failed: {rest}")
        elif word == "COPY":
            copy(stage, rest.split(), stages, installed)
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.folder / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            stage.variables.update(part.split("=", 1) for part in rest.split())
        elif word == "ENTRYPOINT":
            entry = rest.strip('[]"')
        else:
            sys.exit(f"container test: does not know {word}")
        print(f"    {time.time() - begun:.1f} s", flush=True)
    return stage, entry


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--installed", type=Path)
    parser.add_argument("--arg", action="append", default=["CUDA=0"])
    parser.add_argument("--run", default="demo --device cpu", help="what the command does at the end, without network")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="container-")
    try:
        arguments = dict(text.split("=", 1) for text in options.arg)
        stage, entry = build(Path(folder), arguments, options.installed)
        size = subprocess.run(["du", "-smx", stage.folder], capture_output=True, text=True).stdout.split()[0]
        begun = time.time()
        if stage.run(f"{entry} --version && {entry} {options.run}", network=False).returncode:
            sys.exit(f"container test: failed: {entry} {options.run}")
        print(f"container test: passed; the image has {size} MB, '{options.run}' took {time.time() - begun:.0f} s")
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)



main()
