"""The first loss of a base: predicting zero is 1, random weights are more, and then the run ends."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_network import ROBOT_DIM, SETTINGS, make_batch, make_model, make_state
from torch import nn

from pi05.errors import TrainingError
from pi05.model.flow import LossKind
from pi05.train.step import LossSettings, train_step
from pi05.train.watchers.first_loss import loss_of_zero, require_trained_base


class Zero(nn.Module):
    """A network that predicts zero, through the loss of the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make_model()
        with torch.no_grad():
            self.model.action_out.weight.zero_()
            self.model.action_out.bias.zero_()


@pytest.mark.parametrize("kind", ["masked", "lerobot", "openpi"])
@pytest.mark.parametrize("flow_samples", [1, 3])
@pytest.mark.parametrize("max_delay", [0, 4])
def test_a_network_that_predicts_zero_has_exactly_the_loss_of_zero(
    kind: LossKind, flow_samples: int, max_delay: int
) -> None:
    model = Zero().model
    state = make_state(model, dict(model.named_parameters()))
    settings = LossSettings(kind=kind, robot_action_dim=ROBOT_DIM, flow_samples=flow_samples, max_delay=max_delay)
    batches = [make_batch(3, 0), make_batch(2, 1)]
    before = torch.get_rng_state()
    of_zero, entries = loss_of_zero(state, batches, settings)
    assert torch.equal(before, torch.get_rng_state())
    result = train_step(state, batches, settings)
    assert float(result.loss) == pytest.approx(float(of_zero), rel=1e-5)
    assert float(entries) <= 5 * 5 * 6


def test_random_weights_predict_worse_than_nothing() -> None:
    """As every network that was initialised and never trained: its velocities are of the size of the true ones."""
    model = make_model()
    with torch.no_grad():
        model.action_out.weight.normal_(std=1.0)
    state = make_state(model, dict(model.named_parameters()))
    batches = [make_batch(16, seed) for seed in range(4)]
    of_zero, _ = loss_of_zero(state, batches, SETTINGS)
    loss = float(train_step(state, batches, SETTINGS).loss)
    with pytest.raises(TrainingError, match="worse than a network that has learnt nothing") as stop:
        require_trained_base(loss, float(of_zero), 2_000, "BASE", allowed=False)
    assert "--allow=base.loss" in stop.value.remedy
    assert require_trained_base(loss, float(of_zero), 2_000, "BASE", allowed=True) > 1.4
    assert require_trained_base(loss, float(of_zero), 100, "BASE", allowed=False) > 1.4, "too few numbers to judge"


@pytest.mark.parametrize("ratio", [0.73, 1.0, 1.17, float("nan")])
def test_sound_bases_pass(ratio: float) -> None:
    require_trained_base(ratio * 1.3, 1.3, 10_000, "BASE", allowed=False)


def test_the_actions_are_needed() -> None:
    model = make_model()
    state = make_state(model, dict(model.named_parameters()))
    with pytest.raises((ValueError, IndexError)):
        loss_of_zero(state, [dataclasses.replace(make_batch(2), actions=None)], SETTINGS)
