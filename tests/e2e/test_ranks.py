"""Several processes through the real command and the real torchrun: the run of one, on any number of them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launched import assert_same_run, finish, flags, launch, run_one, run_ranks, wait_for_step

from pi05.checkpoint.run_folder import list_checkpoints

LORA = {"from_scratch": False, "policy__use_peft": True, "peft__r": 4, "allow": "tokenizer"}


@pytest.fixture(scope="module")
def alone(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, with the average and two passes per step."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run_one(flags(workshop, folder, ema__enable=True, gradient_accumulation_steps=2))
    return folder


@pytest.fixture(scope="module")
def alone_lora(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process with LoRA."""
    folder = tmp_path_factory.mktemp("lora") / "run"
    run_one(flags(workshop, folder, **LORA))
    return folder


@pytest.mark.slow
def test_two_processes_with_the_whole_network_give_the_run_of_one(workshop: Any, alone: Path, tmp_path: Path) -> None:
    told = run_ranks(flags(workshop, tmp_path / "run", ema__enable=True, parallel="ddp", gradient_accumulation_steps=2))
    assert "training: 4 steps of 4 samples (2 processes × 2 passes of 1)" in told
    assert told.count("step 4/4") == 1, "only rank 0 speaks"
    assert_same_run(tmp_path / "run", alone)


def test_two_processes_with_half_the_network_each_give_the_run_of_one_and_one_continues(
    workshop: Any, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = run_ranks(flags(workshop, run, ema__enable=True, parallel="fsdp", gradient_accumulation_steps=2, steps=2))
    held, total = re.search(r"rank 0 holds ([\d.]+) of ([\d.]+) MB of weights", told).groups()  # type: ignore[union-attr]
    assert float(held) == pytest.approx(float(total) / 2, rel=0.01)
    parts = sum(path.stat().st_size for path in (run / "checkpoints/000002/training_state/parts").iterdir())
    for path in (run / "checkpoints/000002/training_state/parts").glob("*.safetensors"):
        assert path.stat().st_size == pytest.approx(parts / 2, rel=0.1), "each process holds half the moments"
    run_one(["--resume", str(run), "--steps=4", "--parallel=auto"])
    assert_same_run(run, alone)


@pytest.mark.slow
def test_lora_on_two_processes_that_go_on_from_one(workshop: Any, alone_lora: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_one(flags(workshop, run, **LORA, steps=2))
    run_ranks(["--resume", str(run), "--steps=4", "--parallel=fsdp", "--gradient_accumulation_steps=2"])
    assert_same_run(run, alone_lora)


@pytest.mark.slow
def test_sigterm_saves_and_another_number_of_processes_goes_on(workshop: Any, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = {"steps": 10_000, "policy__scheduler_decay_steps": 10_000, "save_freq": 10_000, "eval_steps": 0}
    process = launch(flags(workshop, run, **words, parallel="fsdp"))
    wait_for_step(run, 3, process)
    process.send_signal(signal.SIGTERM)
    code, told = finish(process)
    assert code != 0
    assert "stopped by SIGTERM after step" in told, told
    (saved,) = list_checkpoints(run)
    assert not list((run / "checkpoints").glob(".partial*"))
    step = int(saved.name)
    assert 3 <= step < 10_000
    more = f"--steps={step + 1}"
    run_one(["--resume", str(run), more, "--parallel=auto", "--policy.scheduler_decay_steps=10000"])
    run_one(flags(workshop, whole, **{**words, "steps": step + 1}))
    assert_same_run(run, whole)


@pytest.mark.slow
def test_two_machines_split_the_network_inside_each(workshop: Any, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = flags(workshop, run, ema__enable=True, parallel="hsdp", gradient_accumulation_steps=1)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meeting, "--rdzv-id=test", "-m", "pi05", "train", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]
    told = [finish(machine) for machine in machines]
    assert [code for code, _ in told] == [0, 0], told
    assert "hsdp, 4 processes on 2 machines, each with 1/2 of weights" in told[0][1] + told[1][1]
    assert_same_run(run, alone)


@pytest.mark.slow
def test_four_processes_go_on_from_two(workshop: Any, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_ranks(flags(workshop, run, ema__enable=True, parallel="fsdp", gradient_accumulation_steps=2, steps=2))
    run_ranks(["--resume", str(run), "--steps=4", "--gradient_accumulation_steps=1"], processes=4)
    assert_same_run(run, alone)
