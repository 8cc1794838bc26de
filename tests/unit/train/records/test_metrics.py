"""What is measured between two log lines, and how it reads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from pi05.train.parallel.ranks import Ranks
from pi05.train.records.metrics import Meter, render_line
from pi05.train.step import StepResult


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def result(step: int, loss: float, samples: int = 8) -> StepResult:
    return StepResult(
        step=step,
        samples=samples,
        learning_rate=step / 1000,
        loss=torch.tensor(loss),
        grad_norm=torch.tensor(2 * loss),
        sample_losses=torch.zeros(samples),
        dimension_losses=torch.zeros(3),
    )


def test_speed_waiting_and_time_left_come_from_the_clock() -> None:
    clock = Clock()
    meter = Meter(total_steps=20, train_frames=50, first_step=10, samples=100, clock=clock)
    weights = {"w": torch.tensor([[3.0, 4.0]]), "embedding.weight": torch.ones(9, 9), "b": torch.ones(5)}
    for step, loss in ((11, 1.0), (12, 3.0)):
        clock.now += 2.0
        meter.waited(0.5)
        meter.add(result(step, loss))
    clock.now += 6.0
    meter.paused(6.0)
    record = meter.record(weights)
    assert record["type"] == "train"
    assert record["step"] == 12
    assert record["samples"] == 116
    assert record["epochs"] == pytest.approx(116 / 50)
    assert record["loss"] == pytest.approx(2.0)
    assert record["grad_norm"] == pytest.approx(4.0)
    assert record["param_norm"] == pytest.approx(5.0)
    assert record["learning_rate"] == 0.012
    assert record["samples_per_second"] == pytest.approx(16 / 4.0)
    assert record["data_wait"] == pytest.approx(1.0 / 4.0)
    assert record["seconds_left"] == pytest.approx(10.0 / 2 * 8)
    clock.now += 1.0
    meter.add(result(13, 5.0))
    second = meter.record(weights)
    assert second["loss"] == pytest.approx(5.0)
    assert second["samples_per_second"] == pytest.approx(8.0)
    assert second["data_wait"] == 0.0


def test_the_console_line_is_one_line_with_everything() -> None:
    clock = Clock()
    meter = Meter(total_steps=2_000, train_frames=640, first_step=0, samples=0, clock=clock)
    clock.now += 0.5
    meter.waited(0.05)
    meter.add(result(1, 0.12345, samples=64))
    line = render_line({**meter.record({"w": torch.ones(2, 2)}), "memory_gb": 1.25}, 2_000)
    assert line == (
        "step    1/2,000 · samples 64 · epochs 0.10 · loss 0.1235 · grad 0.247 · lr 1.00e-03 · 128.0 samples/s · "
        "data wait 10% · memory 1.2 GB · left 16 min 40 s"
    )


def test_work_is_shown_per_second_and_as_a_share_of_a_known_peak() -> None:
    clock = Clock()
    meter = Meter(total_steps=9, train_frames=9, first_step=0, samples=0, clock=clock, peak=4e12)
    clock.now += 3.0
    meter.paused(1.0)
    meter.add(result(1, 1.0), work=3e12)
    meter.add(result(2, 1.0), work=1e12)
    record = meter.record({"w": torch.ones(2, 2)})
    assert record["tflops_per_second"] == pytest.approx(2.0)
    assert record["mfu"] == pytest.approx(0.5)
    assert " · 2 TFLOP/s · MFU 50% · " in render_line(record, 9)
    clock.now += 1.0
    meter.add(result(3, 1.0), work=3e12)
    assert meter.record({"w": torch.ones(2, 2)})["tflops_per_second"] == pytest.approx(3.0), "of this interval alone"
    unknown = Meter(total_steps=9, train_frames=9, first_step=0, samples=0, clock=clock)
    clock.now += 1.0
    unknown.add(result(1, 1.0), work=1e12)
    record = unknown.record({"w": torch.ones(2, 2)})
    assert "mfu" not in record
    assert "MFU" not in render_line(record, 9)


def test_waiting_and_memory_are_those_of_the_process_with_the_most() -> None:
    class Four(Ranks):
        """Four processes, of which another one waited and needed more."""

        def maxima(self, values: Sequence[float]) -> list[float]:
            return [max(own, other) for own, other in zip(values, (0.75, 1e6, 2e6), strict=True)]

    clock = Clock()
    meter = Meter(total_steps=9, train_frames=9, first_step=0, samples=0, clock=clock)
    clock.now += 1.0
    meter.waited(0.25)
    meter.add(result(1, 1.0))
    record = meter.record({"w": torch.ones(2, 2)}, Four(world_size=4))
    assert (record["data_wait"], record["memory_gb"], record["memory_reserved_gb"]) == (0.75, 1e6, 2e6)
    assert " · memory 1000000.0 GB (2000000.0 reserved) · " in render_line(record, 9)
