"""Training by two hosts, by torchrun, and with processes killed at random. Two network namespaces of this machine, with addresses of
their own and a cable between them, are the hosts; making them needs root and iproute2.

    make hosts-test                          # installs iproute2 if need be, builds, and runs this
    python3 tests/hosts/run.py [--camtrast PROGRAM] [--torchrun PROGRAM] [--seed N] [TEST...]

Without torchrun (it comes with PyTorch) its test is left out, and the last line says so.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"camtrast-a": "10.213.7.1", "camtrast-b": "10.213.7.2"}
TRAIN = ("pretrain --method moco --data train.pack --arch resnet18-w8-small --batch-size 16 --queue-size 64 --bn-splits 2 --epochs 3 "
         "--device cpu --threads 1 --save-every 3 --log-every 1 --process-timeout 15")


def ip(line):
    subprocess.run(["ip", *line.split()], check=True)


class Network:
    """Two hosts and the cable between them, for as long as the `with` block."""

    def __enter__(self):
        self.__exit__()
        for name in HOSTS:
            ip(f"netns add {name}")
        ip("link add name cable-a type veth peer name cable-b")
        for (name, address), cable in zip(HOSTS.items(), ["cable-a", "cable-b"]):
            ip(f"link set {cable} netns {name}")
            ip(f"-n {name} addr add {address}/24 dev {cable}")
            ip(f"-n {name} link set {cable} up")
            ip(f"-n {name} link set lo up")
        return self

    def __exit__(self, *_):
        for name in HOSTS:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


class World:
    """A folder with a pack, which all hosts see, and the run that one process made."""

    def __init__(self, folder, arguments):
        self.folder, self.program, self.torchrun = folder, arguments.camtrast.resolve(), arguments.torchrun
        self.random = random.Random(arguments.seed)
        for line in ["data synth --out world --size 32 --images-per-class 8 --scenes 2 --test-scenes 2 --scene-size 64 --streets 2 "
                     "--val-streets 2 --street-size 32",
                     "data prepare miniimagenet --from world --out train.pack --size 32 --split train"]:
            self.end(self.start(line))
        self.end(self.start(f"{TRAIN} --nproc 2 --out whole"))

    def start(self, line, prefix=(), **variables):
        return subprocess.Popen([*prefix, self.program, *line.split()], cwd=self.folder, env=os.environ | variables, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)

    def on_hosts(self, out):
        """One process on each host, as torchrun or a scheduler would start them."""
        port = "29617"
        return [self.start(f"{TRAIN} --out {out}", ["ip", "netns", "exec", name], RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0",
                           MASTER_ADDR=HOSTS["camtrast-a"], MASTER_PORT=port, GLOO_SOCKET_IFNAME=f"cable-{name[-1]}")
                for rank, name in enumerate(HOSTS)]

    def end(self, process, code=0):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == code, f"{process.args}: {process.returncode}\n{output}\n{errors}"
        return output + errors

    def steps(self, out):
        log = self.folder / out / "log.jsonl"
        text = log.read_text() if log.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may just be written
        return [line["step"] for line in map(json.loads, lines) if line["kind"] == "step"]

    def until(self, out, step):
        end = time.time() + 120
        while max(self.steps(out), default=0) < step:
            assert time.time() < end, f"{out} does not come to step {step}: {self.steps(out)}"
            time.sleep(0.02)

    def bytes(self, out):
        return (self.folder / out / "backbone.safetensors").read_bytes()


def two_hosts(world):
    """Two hosts with addresses of their own make the run of two processes on one host."""
    with Network():
        for process in world.on_hosts("two-hosts"):
            world.end(process)
    assert world.bytes("two-hosts") == world.bytes("whole")


def cut_off(world):
    """A host that is cut off ends both within the timeout, by name; the run goes on to the same bytes."""
    with Network():
        processes = world.on_hosts("cut-off")
        world.until("cut-off", 5)
        ip("-n camtrast-b link set cable-b down")
        cut = time.time()
        said = [world.end(process, 1) for process in processes]
        seconds = time.time() - cut
        assert seconds < 60, f"{seconds:.0f} s"
        for rank, text in enumerate(said):
            assert f"rank {1 - rank}" in text, f"rank {rank} says:\n{text}"
    world.end(world.start(f"{TRAIN} --nproc 2 --out cut-off"))
    assert world.bytes("cut-off") == world.bytes("whole")
    return f"{seconds:.0f} s to the end of both"


def ten_kills(world):
    """One of two processes is killed at random ten times; the same command goes on to the same bytes."""
    kills = 0
    last = max(world.steps("whole"))
    while kills < 10:
        process = world.start(f"{TRAIN} --nproc 2 --out killed")
        # A step at which a state is saved lies between most kills, so that the run gets on.
        world.until("killed", min(max(world.steps("killed"), default=0) + world.random.randint(1, 3), last - 1))
        time.sleep(world.random.uniform(0, 0.3))
        rank = world.random.randrange(2)
        if not kill(process.pid, rank):
            break
        said = world.end(process, 1)
        assert f"rank {rank}" in said, f"rank {rank} was killed:\n{said}"
        kills += 1
        if max(world.steps("killed")) >= last - 3:
            shutil.rmtree(world.folder / "killed")
    world.end(world.start(f"{TRAIN} --nproc 2 --out killed"))
    assert world.bytes("killed") == world.bytes("whole")
    return f"{kills} kills"


def kill(parent, rank):
    """Kills the process of a rank; whether there was one."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            os.kill(int(child), signal.SIGKILL)
            return True
    return False


def restarted_by_torchrun(world):
    """torchrun starts both processes again when one is killed; the run goes on to the same bytes."""
    if not world.torchrun:
        return None
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    launch = [world.torchrun, "--no-python", "--nproc-per-node", "2", "--max-restarts", "2", "--master-port", str(port), "--monitor-interval", "0.5"]
    process = world.start(f"{TRAIN} --out torchrun", launch)
    world.until("torchrun", 5)
    assert kill(process.pid, 1), "torchrun has no process of rank 1"
    world.end(process)
    steps = world.steps("torchrun")
    assert steps == sorted(set(steps)) == world.steps("whole")
    assert world.bytes("torchrun") == world.bytes("whole")


TESTS = [two_hosts, cut_off, ten_kills, restarted_by_torchrun]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camtrast", type=Path, default=ROOT / "target" / "release" / "camtrast")
    parser.add_argument("--torchrun", default=shutil.which("torchrun"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("tests", nargs="*", choices=[[], *(test.__name__ for test in TESTS)])
    arguments = parser.parse_args()
    wanted = [test for test in TESTS if not arguments.tests or test.__name__ in arguments.tests]
    left_out = "" if arguments.torchrun else "; torchrun was not found, its test is left out"
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), arguments)
        for test in wanted:
            if test is restarted_by_torchrun and left_out:
                continue
            begun = time.time()
            found = test(world)
            print(f"ok  {test.__doc__} ({f'{found}, ' if found else ''}{time.time() - begun:.0f} s)", flush=True)
    print(f"hosts: {len(wanted) - (restarted_by_torchrun in wanted and bool(left_out))} tests passed{left_out}")


if __name__ == "__main__":
    main()
