"""`pi05 train` on several processes through the real torchrun (gloo, CPU), and what its records say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pi05.commands.train import read_command
from pi05.train.loop import train

TOLERANCE = 1e-5
"""Relative; the same sums in another order."""
MIXED_TOLERANCE = 2e-3
"""A sum's last bit, which depends on who adds, may be rounded to another bfloat16 number; a processor's own choice of
products decides when."""
STEPS: dict[str, Any] = {
    "steps": 4,
    "policy__scheduler_decay_steps": 4,
    "policy__scheduler_warmup_steps": 1,
    "save_freq": 2,
    "eval_steps": 2,
    "eval_frames": 5,
    "log_freq": 1,
}
SETTINGS: dict[str, Any] = {"global_batch_size": 4, "batch_size": None, **STEPS}
SECONDS = 420


def flags(workshop: Any, run: Path, **settings: object) -> list[str]:
    return [word for word in workshop.flags(run, **{**SETTINGS, **settings}) if not word.endswith("=None")]


def launch(words: list[str], processes: int = 2, wrapper: Path | None = None, **popen: Any) -> subprocess.Popen[str]:
    """Start torchrun; `wrapper` is a shell script in the place of `python -m pi05`."""
    started = ["-m", "pi05"] if wrapper is None else ["--no-python", "bash", str(wrapper)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [sys.executable, *torchrun, *started, "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **popen,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and output; a hang is a failure."""
    try:
        told = process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"hangs: {process.communicate()[0]}")
    return process.returncode, told


def run_ranks(words: list[str], processes: int = 2) -> str:
    code, told = finish(launch(words, processes))
    assert code == 0, told
    return told


def run_one(words: list[str]) -> None:
    train(read_command(words).config, console=False)


def records(run: Path) -> dict[tuple[str, int], dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(line["type"], line["step"]): line for line in lines if line["type"] in ("train", "eval")}


def assert_same_run(found: Path, wanted: Path, tolerance: float = TOLERANCE) -> None:
    left, right = records(found), records(wanted)
    assert left.keys() == right.keys()
    for step, record in right.items():
        for name in ("loss", "grad_norm", "param_norm", "action_error", "samples"):
            if name in record:
                assert left[step][name] == pytest.approx(record[name], rel=tolerance), (step, name)
        if "effects" in record:
            assert left[step]["effects"] == pytest.approx(record["effects"], abs=1e-3), (step, "effects")


def process_of_rank(rank: int, parent: int) -> int:
    """Return the process id of a rank, once it is there."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                inherited = (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(parent)
                if inherited and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
            except OSError:
                continue
        time.sleep(0.2)
    raise AssertionError(f"rank {rank} never started")


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit and process.poll() is None:
        if (run / "metrics.jsonl").exists() and ("train", step) in records(run):
            return
        time.sleep(0.05)
    pytest.fail(f"step {step} never came: {process.communicate()[0] if process.poll() is not None else 'too slow'}")
