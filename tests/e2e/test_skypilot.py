"""launch/skypilot.yaml: its shell lines on two machines (gloo, CPU) with the real torchrun, stopped as SkyPilot stops.

No SkyPilot: the lines run under an interactive bash, as SkyPilot 0.14 runs them (sky/skylet/log_lib.py), and SIGTERM
goes to every process of a machine (`kill_process_tree` in sky/skylet/subprocess_daemon.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_skypilot import TASK, shell_lines, variables

from pi05.checkpoint.run_folder import list_checkpoints

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "src" / "pi05" / "assets" / "pi05-tiny"
FLAGS = "--preset=tiny --global_batch_size=4 --steps=60 --policy.scheduler_decay_steps=60 --threads=1 --log_freq=1"
SECONDS = 240
LOST = 60
"""How long a machine may go on, once another is lost; ten seconds of it are the lines' own."""
(AGAIN,) = TASK["resources"]["job_recovery"]["recover_on_exit_codes"]

pytestmark = pytest.mark.slow


class Job:
    """What SkyPilot starts for the file: the same lines on every machine, here in two sessions of this one."""

    def __init__(self, folder: Path, dataset: Path, flags: str = FLAGS) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.folder = folder
        self.run = folder / "runs" / "test"
        here = {
            "/runs/": f"{folder}/runs/",
            "/data/dataset": str(dataset),
            "/data/base": str(BASE),
            "--master-port=29500": f"--master-port={port}",
        }
        self.script = folder / "run.sh"
        self.script.write_text(shell_lines(here))
        words = f"--eval_steps=0 --save_freq=1000 --dataset.cache_dir={folder.parent / 'cache'}"
        self.machines = [self._start(rank, f"{flags} {words}") for rank in (0, 1)]

    def _start(self, rank: int, flags: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            **variables(rank, self.run.name, flags, ("127.0.0.1", "127.0.0.1"), gpus=1),
        }
        with (self.folder / f"{rank}.log").open("a") as log:
            return subprocess.Popen(
                ["bash", "--norc", "-i", str(self.script)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env=environment,
            )

    def told(self) -> str:
        """Return what both machines have written, in all starts."""
        return "\n".join((self.folder / f"{rank}.log").read_text() for rank in (0, 1))

    def wait_for(self, step: int) -> None:
        limit = time.monotonic() + SECONDS
        while time.monotonic() < limit and all(machine.poll() is None for machine in self.machines):
            if max(losses(self.run), default=0) >= step:
                return
            time.sleep(0.05)
        pytest.fail(f"step {step} never came: {self.told()}")

    def signal(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to every process of a machine, its shell first."""
        for each in tree(self.machines[rank].pid):
            os.kill(each, number)

    def finish(self) -> list[int]:
        """Return the exit codes; a hang is a failure."""
        try:
            return [machine.wait(timeout=SECONDS) for machine in self.machines]
        except subprocess.TimeoutExpired:
            for rank in (0, 1):
                self.signal(rank, signal.SIGKILL)
            pytest.fail(f"hangs: {self.told()}")


def tree(root: int) -> list[int]:
    """Return a process and what it has started, directly or not."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for each in found:
        found.extend(children.get(each, []))
    return found


def losses(run: Path) -> dict[int, float]:
    """Return the loss of every step that was noted."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    records: Sequence[dict[str, Any]] = [json.loads(line) for line in lines]
    return {record["step"]: record["loss"] for record in records if record["type"] == "train"}


@pytest.fixture(scope="module")
def whole(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run that nothing interrupts."""
    job = Job(tmp_path_factory.mktemp("whole"), workshop.dataset)
    assert job.finish() == [0, 0], job.told()
    assert sorted(losses(job.run)) == list(range(1, 61))
    return losses(job.run)


def test_a_stopped_run_asks_to_be_started_again_and_goes_on_to_the_bit(
    workshop: Any, whole: dict[int, float], tmp_path: Path
) -> None:
    dataset = tmp_path / "data"
    shutil.copytree(workshop.dataset, dataset)

    job = Job(tmp_path, dataset)
    job.wait_for(5)
    (pattern,) = re.findall(r"pkill -TERM -f '(.*)'", TASK["config"]["hooks"][0]["run"])
    met = subprocess.run(["sh", "-c", f"pgrep -f '{pattern}'; true"], stdout=subprocess.PIPE, text=True, check=True)
    launchers = {tree(machine.pid)[1] for machine in job.machines}
    assert launchers <= set(map(int, met.stdout.split())), "the hook finds torchrun"
    job.signal(1, signal.SIGTERM)
    assert job.finish() == [AGAIN, AGAIN], job.told()
    assert "stopped by SIGTERM after step" in job.told()
    (first,) = list_checkpoints(job.run)
    assert 5 <= int(first.name) < 60

    dataset.rename(tmp_path / "away")
    job = Job(tmp_path, dataset)
    codes = job.finish()
    assert 0 not in codes, job.told()
    assert AGAIN not in codes, "an error is shown, not repeated, also after an interruption"
    (tmp_path / "away").rename(dataset)

    job = Job(tmp_path, dataset)
    job.wait_for(int(first.name) + 5)
    for rank in (0, 1):
        job.signal(rank, signal.SIGTERM)
    assert job.finish() == [AGAIN, AGAIN], job.told()
    assert len(list_checkpoints(job.run)) == 2

    job = Job(tmp_path, dataset)
    assert job.finish() == [0, 0], job.told()
    assert losses(job.run) == whole

    job = Job(tmp_path, dataset)
    assert job.finish() == [0, 0], f"a finished run that is started again: {job.told()}"


def test_a_lost_machine_ends_the_other_and_a_run_without_a_checkpoint_starts_again(
    workshop: Any, whole: dict[int, float], tmp_path: Path
) -> None:
    for lost in (1, 0):
        job = Job(tmp_path, workshop.dataset)
        job.wait_for(5)
        job.signal(lost, signal.SIGKILL)
        killed = time.monotonic()
        codes = job.finish()
        assert time.monotonic() - killed < LOST, job.told()
        assert codes[lost] == -signal.SIGKILL
        assert codes[1 - lost] not in (0, AGAIN), job.told()
        assert not list_checkpoints(job.run)
        (job.run / "metrics.jsonl").unlink()
    job = Job(tmp_path, workshop.dataset)
    assert job.finish() == [0, 0], job.told()
    assert losses(job.run) == whole
