"""`--policy.compile_model` through the real command, with everything that it is combined with.

In processes of their own: the tests' checks of shapes cannot be compiled. Each run measures the held-out error between
its steps, so that sampling is compiled too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launched import STEPS, records

from pi05.commands.train import read_command
from pi05.train.loop import train

pytestmark = pytest.mark.slow
LORA = {"from_scratch": False, "peft__r": 4}
COMBINATION = {**LORA, "method": "lora", "activation_checkpointing": "selective"}
"""Low memory is compiled in `unit/train/optim/test_portion.py`; a cold run of it takes five minutes."""
FLOAT32_TOLERANCE = 2e-5
"""Relative, on losses; the same sums in another order, over four steps."""
SECONDS = 1_200


def flags(workshop: Any, run: Path, **settings: object) -> list[str]:
    words = workshop.flags(run, **{**STEPS, **settings})
    own = ("--from_scratch=false", "--policy.tokenizer_path") if settings.get("from_scratch") is False else ()
    return [word for word in words if not word.endswith("=None") and not word.startswith(own)]


def command(words: list[str], processes: int = 1) -> None:
    """Run `pi05 train`, on several processes through torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), "-m", "pi05", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout
    assert "recompile_limit" not in done.stdout


def assert_same_run(found: Path, wanted: Path, tolerance: float) -> None:
    left, right = records(found), records(wanted)
    assert left.keys() == right.keys()
    assert len(left) == STEPS["steps"] * 3 // 2
    for step, record in right.items():
        for name in ("loss", "grad_norm", "action_error"):
            if name in record:
                assert left[step][name] == pytest.approx(record[name], rel=tolerance), (step, name)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled run without a break."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    command(flags(workshop, folder, policy__compile_model=True, **COMBINATION))
    return folder


def test_the_run_is_that_without_compilation(workshop: Any, whole: Path, tmp_path: Path) -> None:
    train(read_command(flags(workshop, tmp_path / "plain", **COMBINATION)).config, console=False)
    assert_same_run(whole, tmp_path / "plain", FLOAT32_TOLERANCE)


def test_two_and_two_steps_equal_four(workshop: Any, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command(flags(workshop, folder, **{**COMBINATION, "policy__compile_model": True, "steps": 2}))
    command(["--resume", str(folder), "--steps=4"])
    left, right = (files(path / "checkpoints" / "000004") for path in (whole, folder))
    assert left.keys() == right.keys()
    assert [name for name in left if left[name] != right[name]] == []


def test_two_processes_give_the_run_of_one(workshop: Any, tmp_path: Path) -> None:
    """One process without compilation against two with it."""
    shared = {"global_batch_size": 4, "batch_size": None, "activation_checkpointing": "selective"}
    train(read_command(flags(workshop, tmp_path / "alone", **shared)).config, console=False)
    command(flags(workshop, tmp_path / "ranks", policy__compile_model=True, parallel="fsdp", **shared), processes=2)
    assert_same_run(tmp_path / "ranks", tmp_path / "alone", FLOAT32_TOLERANCE)
