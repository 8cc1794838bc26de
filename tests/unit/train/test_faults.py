"""A loss that is not finite is named down to frame, episode and dimension."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from pi05.errors import TrainingError
from pi05.train.faults import BatchOrigin, require_finite
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
