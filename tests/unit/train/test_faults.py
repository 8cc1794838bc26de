"""A loss that is not finite is named down to frame, episode and dimension."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from pi05.errors import TrainingError
from pi05.train.faults import BatchOrigin, UncheckedStep, require_finite, require_finite_on_all
from pi05.train.parallel.ranks import Ranks
from pi05.train.step import StepResult

ORIGIN = BatchOrigin(frames=[40, 7, 12], episodes=[3, 0, 1])
NAMES = ["x", "y", "gripper"]
FINE = StepResult(
    step=17,
    samples=3,
    learning_rate=1e-3,
    loss=torch.tensor(1.0),
    grad_norm=torch.tensor(2.0),
    sample_losses=torch.ones(3),
    dimension_losses=torch.ones(5),
)


def test_finite_numbers_pass() -> None:
    require_finite(FINE, ORIGIN, NAMES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_sample_is_named(value: float) -> None:
    bad = dataclasses.replace(
        FINE,
        loss=torch.tensor(value),
        sample_losses=torch.tensor([1.0, value, 1.0]),
        dimension_losses=torch.tensor([1.0, 1.0, value, 1.0, value]),
    )
    with pytest.raises(TrainingError) as failure:
        require_finite(bad, ORIGIN, NAMES)
    assert "the loss is not finite at step 17" in failure.value.problem
    assert "1 of 3 samples: frame 7 (episode 0)" in str(failure.value.found)
    assert "action dimension: 2 (gripper), 4" in str(failure.value.found)
    assert "--dataset.exclude_episodes '[0]'" in failure.value.remedy


def test_a_step_that_is_looked_at_later_tells_the_same() -> None:
    UncheckedStep(FINE, ORIGIN).require_finite(NAMES, Ranks())
    bad = dataclasses.replace(FINE, grad_norm=torch.tensor(math.inf))
    with pytest.raises(TrainingError, match="the gradient is not finite at step 17"):
        UncheckedStep(bad, ORIGIN).require_finite(NAMES, Ranks())


class Two(Ranks):
    """The second of two processes; the first one had a bad sample."""

    def gather(self, value: Any) -> list[Any]:
        dimensions = value[1]
        bad = torch.tensor([math.nan, 1.0, 1.0])
        return [(bad, dimensions + torch.tensor([0, 0, math.nan, 0, 0]), [90, 91, 92], [8, 8, 9]), value]


def test_a_bad_sample_of_another_process_is_named_here_too() -> None:
    bad = dataclasses.replace(FINE, loss=torch.tensor(math.nan))
    with pytest.raises(TrainingError) as failure:
        require_finite_on_all(bad, ORIGIN, NAMES, Two(rank=1, world_size=2))
    assert "1 of 6 samples: frame 90 (episode 8)" in str(failure.value.found)
    assert "action dimension: 2 (gripper)" in str(failure.value.found)
    require_finite_on_all(FINE, ORIGIN, NAMES, Two(rank=1, world_size=2))


def test_when_all_are_bad_the_weights_are_suspected() -> None:
    nan = torch.tensor(math.nan)
    bad = dataclasses.replace(FINE, loss=nan, sample_losses=nan.expand(3), dimension_losses=nan.expand(5))
    with pytest.raises(TrainingError) as failure:
        require_finite(bad, ORIGIN, NAMES)
    assert "damaged weights" in failure.value.remedy


def test_a_bad_gradient_alone_is_told_apart() -> None:
    with pytest.raises(TrainingError, match="gradient is not finite at step 17, though the loss is") as failure:
        require_finite(dataclasses.replace(FINE, grad_norm=torch.tensor(math.inf)), ORIGIN, NAMES)
    assert "frame 40 (episode 3), frame 7 (episode 0), frame 12 (episode 1)" in str(failure.value.found)


def test_a_bad_gradient_names_the_kernel_that_may_have_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = dataclasses.replace(FINE, grad_norm=torch.tensor(math.nan))
    for suspect in ("or with cuDNN's attention off", None):
        monkeypatch.setattr("pi05.train.faults.suspect_attention", lambda suspect=suspect: suspect)
        with pytest.raises(TrainingError, match="gradient is not finite") as failure:
            require_finite(bad, ORIGIN, NAMES)
        assert ("cuDNN" in failure.value.remedy) is (suspect is not None)
        assert "no checkpoint was overwritten" in failure.value.remedy
