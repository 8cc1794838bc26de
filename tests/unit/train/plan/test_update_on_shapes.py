"""What the update reads, writes and needs for itself, by the way it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pi05.model.config import tiny
from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.plan.counted_on import CountedOn
from pi05.train.plan.live_memory import LiveStorage
from pi05.train.plan.step_on_shapes import Shapes, measure_step
from pi05.train.plan.update_on_shapes import STORED, bytes_of_clipping, bytes_of_update, plain_temporaries

RESULTS = Path(__file__).resolve().parents[4] / "benchmarks" / "results"
SHAPES = Shapes(batch=1, cameras=2, prompt_tokens=16)
COUNT = 2**18


def of(state: StateKind, dtype: torch.dtype) -> TrainConfig:
    return TrainConfig(optimizer_state=state, precision="bf16-sr" if dtype == torch.bfloat16 else "mixed")


def named(dtype: torch.dtype, state: str) -> str:
    """Return what the benchmark calls a case."""
    return f"{str(dtype).removeprefix('torch.')} weights, {state} moments"


def test_the_stored_bytes_are_those_of_the_newest_benchmark() -> None:
    newest = max(RESULTS.glob("optimizer_update_????-??-??.json"))
    cases = json.loads(newest.read_text())["computed_not_measured"]["cases"]
    names = {"plain": "eager", "compiled": "compiled"}
    found = {named(*case): {names[way]: size for way, size in by_way.items()} for case, by_way in STORED.items()}
    assert found == {
        case: {way: round(rows[way]["bytes_per_parameter"], 1) for way in names.values()}
        for case, rows in cases.items()
    }
    lowest = {case: rows["kernel"]["bytes_per_parameter"] for case, rows in cases.items()}
    for dtype, state in STORED:
        kernel = bytes_of_update(of(state, dtype), [torch.empty(COUNT, dtype=dtype, device="meta")], "kernel") / COUNT
        assert kernel == pytest.approx(lowest[named(dtype, state)])


def test_what_is_moved_by_ways_and_sizes() -> None:
    matrix, vector = (torch.empty(count, device="meta") for count in (COUNT, 512))
    config = of("8bit", torch.float32)
    assert bytes_of_update(config, [matrix], "kernel") == COUNT * (16 + 16 / 256)
    assert bytes_of_update(config, [vector], "kernel") == 28 * 512, "small parameters have float32 moments"
    assert bytes_of_update(config, [vector], "plain") == 156 * 512
    assert bytes_of_update(config, [matrix, vector], "compiled") == round(74.3 * COUNT + 28 * 512)
    assert bytes_of_update(TrainConfig(), [matrix], None) == 28 * COUNT
    away = TrainConfig(optimizer_offload=True, optimizer_state="8bit")
    assert bytes_of_update(away, [matrix], "kernel") == 12 * COUNT, "moments cross the bus"
    for way in ("plain", "compiled"):
        assert bytes_of_update(away, [matrix], way) == bytes_of_update(config, [matrix], way), "a portion is as large"
    assert (bytes_of_clipping([matrix], None), bytes_of_clipping([matrix], "kernel")) == (12 * COUNT, 4 * COUNT)


class Notes:
    """Stands for the kernels and adds up what they are given."""

    def __init__(self) -> None:
        self.bytes = 0

    def launch_packed(self, values: Any, *_: Any) -> None:
        self.bytes += values.moved_bytes

    def launch_float32(self, values: Any, *_: Any) -> None:
        self.bytes += values.moved_bytes

    def launch_group(self, group: Any, *_: Any) -> None:
        self.bytes += sum(each.moved_bytes for each in group)


@pytest.mark.parametrize(("dtype", "state"), list(STORED), ids=str)
def test_what_is_predicted_for_kernels_is_what_they_are_given(state: StateKind, dtype: torch.dtype) -> None:
    """That they read and write no more than that is `test_kernel_update.test_loads_and_stores`."""
    weights = {"matrix": nn.Parameter(torch.zeros(COUNT, dtype=dtype)), "vector": nn.Parameter(torch.zeros(70))}
    notes, schedule = Notes(), Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)
    optimizer = LowMemoryOptimizer(weights, AdamSettings(), schedule, seed=0, state=state, way="kernel", launches=notes)
    for value in weights.values():
        value.grad = torch.ones_like(value)
    optimizer.apply(0)
    assert notes.bytes == bytes_of_update(of(state, dtype), weights.values(), "kernel")


@pytest.mark.parametrize("release", [False, True])
def test_kernels_need_nothing_for_themselves_and_the_plain_update_a_portion(release: bool) -> None:
    """At batch 1, with everything recomputed, it is the update that decides the peak of released gradients."""
    config = TrainConfig(optimizer_state="8bit", gradient_release=release, activation_checkpointing="full")
    kernel, plain = (
        measure_step(config, tiny(), SHAPES, kernels=CountedOn(packed=False, update=way)) for way in ("kernel", "plain")
    )
    saved = sum(plain.at_peak.values()) - sum(kernel.at_peak.values())
    assert 0 < saved <= plain.update_workspace
    assert kernel.update_workspace == plain.update_workspace
    assert (kernel.moved, plain.moved) == (kernel.moved_by["kernel"], plain.moved_by["plain"])
    assert 30 < plain.moved / kernel.moved < 50


def test_what_the_plain_update_needs_is_what_it_takes_on_a_cpu() -> None:
    config, schedule = of("8bit", torch.float32), Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)
    weight = nn.Parameter(torch.zeros(COUNT))
    optimizer = LowMemoryOptimizer({"w": weight}, AdamSettings(), schedule, seed=0, state="8bit")
    moments = optimizer.make_moments()["w"]
    gradient, factor = torch.ones(COUNT), torch.ones(())
    tracker = LiveStorage(device="cpu")
    tracker.adopt((weight, gradient, factor, *moments), "held")
    with tracker, tracker.growth() as growth:
        optimizer._move("w", gradient, factor, 0)
    assert plain_temporaries(config, COUNT) == pytest.approx(growth(), rel=0.02)
