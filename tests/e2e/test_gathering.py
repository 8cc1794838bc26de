"""What two processes that share a network exchange in a step, and that rounding before the exchange changes no bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gathered import CASES
from launched import MIXED_TOLERANCE, assert_same_run, finish, flags, run_one, run_ranks

PROGRAM = Path(__file__).parents[1] / "gathered.py"
LAST_BITS = 1e-6
"""Relative; one process adds what two add, in another order."""
MIXED: dict[str, Any] = {"precision": "mixed", "ema__enable": True, "activation_checkpointing": "full"}


def exchange(out: Path, kind: str, processes: int, *cases: str) -> dict[str, Any]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    paths = os.pathsep.join([str(PROGRAM.parent), *sys.path])
    process = subprocess.Popen(
        [*torchrun, str(PROGRAM), str(out), kind, *cases],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )
    code, told = finish(process)
    assert code == 0, told
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes tell of every case."""
    return exchange(tmp_path_factory.mktemp("gathered") / "out.json", "fsdp", 2)


@pytest.mark.parametrize("case", CASES)
def test_not_one_bit_is_other_than_with_exact_weights(found: dict[str, Any], case: str) -> None:
    """Losses, gradients, weights after three steps, sampled actions."""
    assert found[case]["unlike exact"] == []
    assert found[case]["losses"] == pytest.approx(found[case]["losses alone"], rel=LAST_BITS)


@pytest.mark.parametrize("case", CASES)
def test_the_plan_counts_what_is_exchanged(found: dict[str, Any], case: str) -> None:
    told, passes = found[case], CASES[case].passes
    assert sum(told["rounded"]["gathered"].values()) == passes * told["predicted"]["gathered"]
    assert told["rounded"]["summed"] == {"float32": passes * told["predicted"]["summed"]} == told["exact"]["summed"]


def test_matrices_are_gathered_in_half_the_bytes(found: dict[str, Any]) -> None:
    rounded, exact = (found["full"][way]["gathered"] for way in ("rounded", "exact"))
    assert exact.keys() == {"float32"}
    assert rounded.keys() == {"bfloat16", "float32"}
    embedding = found["full"]["embedding"]
    assert exact["float32"] == 2 * rounded["bfloat16"] + rounded["float32"] + embedding, "that once instead of twice"
    assert rounded["bfloat16"] > rounded["float32"], "the most part, even in a network of a few numbers"


def test_there_are_no_more_exchanges_than_layers(found: dict[str, Any]) -> None:
    for case, told in found.items():
        assert told["rounded"]["gathers"] < told["exact"]["gathers"], case
        assert told["rounded"]["gathers"] <= (2 * told["units"] - 1) * CASES[case].passes, case
    for case in ("full", "vision frozen", "the expert alone", "float32"):
        assert found[case]["rounded"]["sums"] == found[case]["exact"]["sums"]


def test_float32_stays_float32(found: dict[str, Any]) -> None:
    assert found["float32"]["rounded"]["gathered"].keys() == {"float32"}


@pytest.mark.slow
def test_two_machines_add_up_the_same_bits(tmp_path: Path) -> None:
    for case, told in exchange(tmp_path / "out.json", "hsdp", 4, "full", "lora").items():
        assert told["unlike exact"] == [], case
        assert told["losses"] == pytest.approx(told["losses alone"], rel=LAST_BITS)


@pytest.mark.slow
def test_a_run_in_mixed_precision_is_that_of_one_process_and_goes_on_bit_for_bit(workshop: Any, tmp_path: Path) -> None:
    alone, whole, resumed = (tmp_path / name for name in ("alone", "whole", "resumed"))
    one_by_one = {**MIXED, "parallel": "fsdp", "gradient_accumulation_steps": 2}  # products of one sample everywhere
    run_one(flags(workshop, alone, **MIXED, gradient_accumulation_steps=4))
    run_ranks(flags(workshop, whole, **one_by_one))
    assert_same_run(whole, alone, MIXED_TOLERANCE)
    run_ranks(flags(workshop, resumed, **one_by_one, steps=2))
    run_ranks(["--resume", str(resumed), "--steps=4"])
    name = "checkpoints/000004/model.safetensors"
    assert (resumed / name).read_bytes() == (whole / name).read_bytes()
