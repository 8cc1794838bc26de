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


def assert_same_run(found: Path, wanted: Path, tolerance: float, measured: bool = True) -> None:
    left, right = records(found), records(wanted)
    assert left.keys() == right.keys()
    assert len(left) == (STEPS["steps"] * 3 // 2 if measured else STEPS["steps"])
    for step, record in right.items():
        for name in ("loss", "grad_norm", "action_error"):
            if name in record:
                assert left[step][name] == pytest.approx(record[name], rel=tolerance), (step, name)


def test_a_run_with_a_break_is_that_without_compilation(workshop: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command(flags(workshop, folder, **{**COMBINATION, "policy__compile_model": True, "steps": 2}))
    command(["--resume", str(folder), "--steps=4"])
    train(read_command(flags(workshop, tmp_path / "plain", **COMBINATION)).config, console=False)
    assert_same_run(folder, tmp_path / "plain", FLOAT32_TOLERANCE)


def test_two_processes_give_the_run_of_one(workshop: Any, tmp_path: Path) -> None:
    """One process without compilation against two with it. Nothing is sampled: that is compiled above."""
    shared = {"global_batch_size": 4, "batch_size": None, "activation_checkpointing": "selective", "eval_steps": 0}
    train(read_command(flags(workshop, tmp_path / "alone", **shared)).config, console=False)
    command(flags(workshop, tmp_path / "ranks", policy__compile_model=True, parallel="fsdp", **shared), processes=2)
    assert_same_run(tmp_path / "ranks", tmp_path / "alone", FLOAT32_TOLERANCE, measured=False)


def test_a_compiler_that_does_not_work_is_an_error_with_the_flag_and_no_traceback(
    workshop: Any, tmp_path: Path
) -> None:
    """Inductor takes $CXX on a CPU; nothing that an earlier run has compiled is taken."""
    words = flags(workshop, tmp_path / "run", policy__compile_model=True, eval_steps=0)
    broken = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "pi05", "train", *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1", **broken},
    )
    assert done.returncode == 2, done.stderr
    assert "torch.compile failed in the network's layers" in done.stderr
    assert "--policy.compile_model=false" in done.stderr
    assert "Traceback" not in done.stderr
