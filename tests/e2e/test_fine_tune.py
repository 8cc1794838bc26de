"""The demonstrations' training in a process for each core: the run of one process, and all end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from launched import assert_same_run, finish, flags, run_one, wait_for_step

from pi05.checkpoint.run_folder import list_checkpoints
from pi05.commands.train import read_command
from pi05.demo.fine_tune import fine_tune
from pi05.errors import UserError
from pi05.train.config import TrainConfig

PROGRAM = """
import sys
from pi05.cli import sigterm_as_interrupt
from pi05.checkpoint.run_folder import list_checkpoints
from pi05.commands.train import read_command
from pi05.demo.fine_tune import fine_tune
from dataclasses import replace
with sigterm_as_interrupt():
    fine_tune(replace(read_command(sys.argv[1:]).config, threads=2))
"""
LONG = {"steps": 400, "policy__scheduler_decay_steps": 400, "save_freq": 1000, "eval_steps": 0}


def config(words: list[str]) -> TrainConfig:
    return replace(read_command(words).config, threads=2)


def children_of(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_processes_give_the_run_of_one(workshop: Any, tmp_path: Path) -> None:
    run_one(flags(workshop, tmp_path / "alone", ema__enable=True))
    threads, rank = torch.get_num_threads(), os.environ.get("RANK")
    result = fine_tune(config(flags(workshop, tmp_path / "run", ema__enable=True)))
    assert result.last_checkpoint.is_dir()
    assert_same_run(tmp_path / "run", tmp_path / "alone")
    assert (torch.get_num_threads(), os.environ.get("RANK")) == (threads, rank)


def test_an_error_of_all_is_told_as_one_process_tells_it(workshop: Any, tmp_path: Path) -> None:
    wrong = replace(config(flags(workshop, tmp_path / "run")), rename_map={"no.such.camera": "scene"})
    with pytest.raises(UserError, match=r"no\.such\.camera"):
        fine_tune(wrong)
    assert children_of(os.getpid()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_first_saves_and_ends_all(workshop: Any, tmp_path: Path, number: signal.Signals) -> None:
    process = start(flags(workshop, tmp_path / "run", **LONG))
    wait_for_step(tmp_path / "run", 3, process)
    others = children_of(process.pid)
    assert len(others) == 1
    os.kill(process.pid, number)
    code, told = finish(process)
    assert code != 0
    assert "continue with: pi05 train --resume" in told
    assert not any(Path(f"/proc/{other}").exists() for other in others)
    (checkpoint,) = list_checkpoints(tmp_path / "run")
    run_one(["--resume", str(tmp_path / "run"), f"--steps={int(checkpoint.name) + 2}"])


@pytest.mark.slow
def test_when_the_first_is_killed_the_others_end(workshop: Any, tmp_path: Path) -> None:
    process = start(flags(workshop, tmp_path / "run", **LONG))
    wait_for_step(tmp_path / "run", 3, process)
    others = children_of(process.pid)
    process.kill()
    process.communicate()
    limit = time.monotonic() + 30
    while any(Path(f"/proc/{other}").exists() for other in others):
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.slow
def test_when_another_is_killed_the_first_says_so(workshop: Any, tmp_path: Path) -> None:
    process = start(flags(workshop, tmp_path / "run", **LONG))
    wait_for_step(tmp_path / "run", 3, process)
    (other,) = children_of(process.pid)
    os.kill(other, signal.SIGKILL)
    code, told = finish(process)
    assert code != 0
    assert "another process of the run ended without a word" in told
    assert "torchrun" not in told, "nobody started it"
