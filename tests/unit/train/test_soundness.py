"""What is not finite is neither saved nor trained on: weights, averages, moments."""

from __future__ import annotations

import pytest
import torch
from small_network import SETTINGS, make_batch, make_model, make_state

from pi05.errors import CheckpointError, TrainingError
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.parameters import freeze
from pi05.train.soundness import find_unsound, require_sound_after_reading, require_sound_before_saving
from pi05.train.step import TrainState, train_step


@pytest.fixture
def state() -> TrainState:
    model = make_model()
    found = make_state(model, freeze(model, "expert"), ema=True)
    train_step(found, [make_batch(2)], SETTINGS)
    return found


def test_a_step_leaves_a_sound_state(state: TrainState) -> None:
    assert find_unsound(state) is None
    require_sound_before_saving(state)
    require_sound_after_reading(state, len(state.optimizer.tensors()), "there")
    require_sound_after_reading(state, None, "there")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["weight", "average", "moment"])
def test_one_value_that_is_not_finite_is_found_and_named(state: TrainState, place: str, value: float) -> None:
    name = next(iter(state.optimizer.parameters))
    assert state.ema is not None
    tensor = {
        "weight": state.optimizer.parameters[name].data,
        "average": state.ema.tensors()[name],
        "moment": state.optimizer.tensors()[f"exp_avg/{name}"],
    }[place]
    tensor.view(-1)[-1] = value
    with pytest.raises(TrainingError, match="no checkpoint was written") as refusal:
        require_sound_before_saving(state)
    assert str(refusal.value.found).startswith(f"{place} ")
    assert name in str(refusal.value.found)
    with pytest.raises(CheckpointError, match="the training state in there is damaged"):
        require_sound_after_reading(state, None, "there")


def test_a_negative_mean_of_squares_is_none(state: TrainState) -> None:
    name = next(name for name in state.optimizer.tensors() if name.startswith("exp_avg_sq/"))
    state.optimizer.tensors()[name].view(-1)[0] = -1.0
    with pytest.raises(CheckpointError) as refusal:
        require_sound_after_reading(state, None, "there")
    assert "a mean of squares, holds -1" in str(refusal.value.found)


def test_lost_moments_are_missed(state: TrainState) -> None:
    count = len(state.optimizer.tensors())
    with pytest.raises(CheckpointError) as refusal:
        require_sound_after_reading(state, count + 1, "there")
    assert f"{count} tensors of moments, of {count + 1}" in str(refusal.value.found)
    fresh = make_state(make_model(), freeze(make_model(), "expert"))
    fresh.step = 7
    with pytest.raises(CheckpointError, match="damaged"):
        require_sound_after_reading(fresh, None, "there")
    fresh.step = 0
    require_sound_after_reading(fresh, None, "there")


def test_codes_of_few_bits_are_sound(state: TrainState) -> None:
    model = make_model()
    parameters = freeze(model, "full")
    schedule = Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-3)
    packed = LowMemoryOptimizer(parameters, AdamSettings(), schedule, seed=0, state="8bit")
    compact = TrainState(step=0, seed=0, model=model, optimizer=packed)
    train_step(compact, [make_batch(2)], SETTINGS)
    assert find_unsound(compact) is None
    with torch.no_grad():
        next(iter(parameters.values())).view(-1)[0] = float("nan")
    assert find_unsound(compact) is not None
