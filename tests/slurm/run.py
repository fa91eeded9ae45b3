"""Suites as jobs of a real Slurm: munged, slurmctld and slurmd of Debian's packages on this machine, in a folder of their own, without a
service manager. Needs root (Slurm starts jobs as their users).

    make slurm-test          # installs slurm-wlm and munge if need be, builds, and runs this
    python3 tests/slurm/run.py [TEST...]
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CAMTRAST = ROOT / "target" / "release" / "camtrast"
RECIPE = """
title = "Three runs"
seeds = [0, 1]
representation = true
runs = [
  { name = "scratch", method = "scratch" },
  { name = "supervised", method = "supervised" },
  { name = "moco", method = "moco", queue-size = 64, bn-splits = 2 },
]
[data]
train = "train.pack"
test = { novel = "test.pack" }
[fewshot]
episodes = 50
[pretrain]
arch = "resnet18-w8-small"
batch-size = 16
epochs = EPOCHS
threads = 1
save-every = 5
[slurm]
time = "10"
"""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmdPort={daemon_port}
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=10
KillWait=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


class Slurm:
    """The daemons, for as long as the `with` block."""

    def __init__(self, folder):
        self.folder = folder
        host = socket.gethostname().split(".")[0]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21
        for name in ["state", "spool"]:
            (folder / name).mkdir()
        self.configuration = folder / "slurm.conf"
        self.configuration.write_text(CONFIGURATION.format(
            host=host, folder=folder, port=free_port(), daemon_port=free_port(), cores=os.cpu_count(), memory=memory))
        os.environ["SLURM_CONF"] = str(self.configuration)
        self.daemons = []

    def __enter__(self):
        running = subprocess.run(["munge", "-n"], capture_output=True).returncode == 0
        if not running:
            run = Path("/run/munge")
            run.mkdir(exist_ok=True)
            shutil.chown(run, "munge", "munge")
            subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"], check=True)
        for daemon in ["slurmctld", "slurmd"]:
            log = open(self.folder / f"{daemon}.out", "w")
            self.daemons.append(subprocess.Popen([daemon, "-D"], stdout=log, stderr=log))
        for _ in range(60):
            states = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True).stdout
            if states.strip() == "idle":
                return self
            time.sleep(0.5)
        sys.exit(f"the node does not come up ({states.strip()!r}); see the logs in {self.folder}")

    def __exit__(self, *_):
        subprocess.run(["scancel", "--me"])
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()


class World:
    """A folder with two packs and a recipe."""

    def __init__(self, folder):
        self.folder = folder
        self.camtrast("data synth --out world --size 32 --images-per-class 8 --evaluation-images-per-class 20 --scenes 2 --test-scenes 2 "
                      "--scene-size 64 --streets 2 --val-streets 2 --street-size 32")
        for split in ["train", "test"]:
            self.camtrast(f"data prepare miniimagenet --from world --out {split}.pack --size 32 --split {split}")
        for name, epochs in [("r.toml", 2), ("long.toml", 40)]:
            (folder / name).write_text(RECIPE.replace("EPOCHS", str(epochs)))

    def start(self, line):
        return subprocess.Popen([CAMTRAST, *line.split()], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def camtrast(self, line, code=0):
        process = self.start(line)
        output, errors = process.communicate()
        assert process.returncode == code, f"camtrast {line}: {process.returncode}\n{output}\n{errors}"
        return output + errors

    def results(self, out):
        return (self.folder / out / "report.csv").read_text()

    def state(self, out, cell):
        path = self.folder / out / "runs" / cell / "cell.json"
        return json.loads(path.read_text())["state"] if path.exists() else None

    def weights(self, run):
        """A backbone without its header, which names its data by the path that was given."""
        content = (self.folder / run / "backbone.safetensors").read_bytes()
        return content[8 + int.from_bytes(content[:8], "little") :]

    def steps(self, out, cell):
        """Step lines of a cell's log, each step once."""
        lines = (self.folder / out / "runs" / cell / "log.jsonl").read_text().splitlines()
        return [line["step"] for line in map(json.loads, lines) if line["kind"] == "step"]


def queue():
    text = subprocess.run(["squeue", "--noheader", "--array", "--format=%F_%K %T %r"], capture_output=True, text=True).stdout
    return [line.split(None, 2) for line in text.splitlines()]


def until(what, condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, f"not within {seconds} s: {what}; the queue: {queue()}"
        time.sleep(0.2)


def same_report(world):
    """The report of a suite is the same by Slurm as without."""
    world.camtrast("suite run r.toml --out here --device cpu")
    world.camtrast("suite run r.toml --out there --device cpu --executor slurm --slurm partition=test,mem=500M")
    assert world.results("here") == world.results("there")
    assert "18 of 18 done" in world.camtrast("suite status there")


def interrupted(world):
    """Ctrl-C leaves the jobs; the same command waits for them again, and submits nothing twice."""
    command = "suite run r.toml --out left --device cpu --executor slurm --slurm mem=500M"
    suite = world.start(command)
    until("a job runs", lambda: any(state == "RUNNING" for _, state, _ in queue()))
    suite.send_signal(signal.SIGINT)
    errors = suite.communicate()[1]
    assert suite.returncode == 1 and "the jobs go on" in errors, errors
    jobs = (world.folder / "left/slurm/jobs.json").read_text()
    assert "job " in world.camtrast("suite status left")
    world.camtrast(command)
    assert (world.folder / "left/slurm/jobs.json").read_text() == jobs
    assert world.results("left") == world.results("here")


def time_limit(world):
    """The signal before the time limit saves the state and queues the element again; it goes on where it was."""
    cell = "moco-s0"
    world.camtrast("suite run long.toml --out unlimited --device cpu --only run=moco,seed=0,task=fewshot")
    suite = world.start("suite run long.toml --out limited --device cpu --executor slurm --slurm mem=500M --only run=moco,seed=0,task=fewshot")
    log = world.folder / "limited/runs" / cell / "log.jsonl"
    until("it trains", lambda: log.exists() and len(world.steps("limited", cell)) > 2)
    [job] = [job for job, state, _ in queue() if state == "RUNNING"]
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    until("it is queued again", lambda: [j for j, state, _ in queue() if j == job and state == "PENDING"])
    assert world.state("limited", cell) == "begun"
    # A requeued job begins two minutes later, unless somebody releases it.
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
    errors = suite.communicate()[1]
    assert suite.returncode == 0, errors
    steps = world.steps("limited", cell)
    assert steps == sorted(set(steps)) == world.steps("unlimited", cell)
    assert world.weights(f"limited/runs/{cell}") == world.weights(f"unlimited/runs/{cell}")


def cancelled(world):
    """One suite's jobs are cancelled, another's are not."""
    suites = {name: world.start(f"suite run long.toml --out {name} --device cpu --executor slurm --slurm mem=500M --seed 0") for name in ["one", "two"]}
    until("both are queued", lambda: all((world.folder / name / "slurm/jobs.json").exists() and
                                         len(json.loads((world.folder / name / "slurm/jobs.json").read_text())) == 3 for name in suites))
    assert "jobs cancelled" in world.camtrast("suite cancel one")
    errors = suites["one"].communicate()[1]
    assert suites["one"].returncode == 1 and "ended without a result" in world.camtrast("suite status one"), errors
    errors = suites["two"].communicate()[1]
    assert suites["two"].returncode == 0, errors
    assert "9 of 9 done" in world.camtrast("suite status two")
    # What was cancelled is submitted again.
    world.camtrast("suite run long.toml --out one --device cpu --executor slurm --slurm mem=500M --seed 0")
    assert world.results("one") == world.results("two")


def failed(world):
    """A failed pretraining ends what waits for it, and nothing else."""
    recipe = (world.folder / "r.toml").read_text().replace('method = "supervised"', 'method = "supervised", lr = 1e30')
    (world.folder / "bad.toml").write_text(recipe)
    output = world.camtrast("suite run bad.toml --out bad --device cpu --executor slurm --slurm mem=500M", 1)
    assert "6 of 18 commands failed" in output, output
    status = world.camtrast("suite status bad")
    assert "the loss became" in status and "its pretraining failed" in status and "12 of 18 done" in status, status


def several_tasks(world):
    """A pretraining of two tasks is one training of two processes, started by srun; its probe has one."""
    recipe = (world.folder / "r.toml").read_text() + "[slurm.pretrain]\nntasks = 2\n"
    (world.folder / "two.toml").write_text(recipe)
    world.camtrast("suite run two.toml --out two-tasks --device cpu --executor slurm --slurm mem=500M --only run=moco,seed=0,task=fewshot")
    world.camtrast("pretrain --method moco --queue-size 64 --bn-splits 2 --data train.pack --arch resnet18-w8-small --batch-size 16 --epochs 2 "
                   "--save-every 5 --device cpu --threads 1 --seed 0 --nproc 2 --out by-hand")
    assert world.weights("two-tasks/runs/moco-s0") == world.weights("by-hand")


TESTS = [same_report, interrupted, time_limit, cancelled, failed, several_tasks]


def main():
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "daemons").mkdir()
        (folder / "world").mkdir()
        world = World(folder / "world")
        with Slurm(folder / "daemons"):
            for test in TESTS:
                if wanted and test.__name__ not in wanted:
                    continue
                begun = time.time()
                test(world)
                print(f"ok  {test.__doc__} ({time.time() - begun:.0f} s)", flush=True)
    print(f"slurm: {len(wanted) or len(TESTS)} tests passed")


if __name__ == "__main__":
    main()
