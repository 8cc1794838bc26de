"""Batches that trip a watcher, and sound ones that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData, build_loader
from pi05.train.faults import BatchOrigin
from pi05.train.parallel.ranks import Ranks
from pi05.train.step import StepResult
from pi05.train.watchers import batches
from pi05.train.watchers.batches import BatchWatch, count_outside, is_spike, judge_loss_shares, tell_spike, usual_loss
from pi05.types import Batch

CPU = torch.device("cpu")


def a_batch(actions: torch.Tensor, mask: torch.Tensor | None = None) -> Batch:
    count = len(actions)
    return Batch(
        images=torch.zeros(count, 0, 8, 8, 3, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.zeros(count, 4, dtype=torch.int64),
        token_mask=None,
        actions=actions,
        action_mask=mask,
    )


def result(step: int, loss: float, dimensions: list[float], samples: list[float]) -> StepResult:
    return StepResult(
        step=step,
        samples=len(samples),
        learning_rate=1e-3,
        loss=torch.tensor(loss),
        grad_norm=torch.tensor(1.0),
        sample_losses=torch.tensor(samples),
        dimension_losses=torch.tensor([*dimensions, 0.0]),
    )


def feed(watch: BatchWatch, losses: list[float], dimensions: list[float], scale: float = 0.9) -> None:
    """Take 8 samples per step; the second dimension of the actions is `scale` times as wide as [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    for step, loss in enumerate(losses, 1):
        actions = torch.rand(8, 10, 32, generator=generator) * 2 - 1
        actions[..., 1] *= scale
        origin = BatchOrigin(frames=list(range(8)), episodes=[3, 3, 4, 4, 5, 5, 6, 6])
        samples = [loss] * 8 if loss < 5 else [0.5] * 7 + [loss * 8]
        watch.add(result(step, loss, dimensions, samples), [a_batch(actions)], origin)


def test_sound_batches_are_told_nothing(data: TrainingData) -> None:
    watch = BatchWatch(data, CPU, Ranks())
    rng = np.random.default_rng(0)
    feed(watch, rng.gamma(20, 0.05, 120).tolist(), [1.0, 1.2, 0.9])
    measures, findings = watch.read()
    assert findings == []
    assert measures.action_outside.tolist() == [0, 0, 0]
    assert measures.loss_share == pytest.approx(np.array([1.0, 1.2, 0.9]) / 3.1, rel=1e-5)
    assert measures.state_outside is not None
    assert measures.state_outside.max() < 0.3
    assert len(measures.losses) == 120


def test_values_out_of_range_are_named(data: TrainingData) -> None:
    watch = BatchWatch(data, CPU, Ranks())
    feed(watch, [1.0] * 40, [1.0, 1.2, 0.9], scale=3)
    measures, (finding,) = watch.read()
    assert measures.action_outside == pytest.approx([0, 2 / 3, 0], abs=0.03)
    assert finding.name == "range.action"
    assert "action_1 6" in finding.text
    assert list(finding.numbers) == ["action_1"]
    assert "--stats=recompute" in finding.remedy


def test_states_in_other_units_are_named(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    states = np.rad2deg(data.dataset.states())
    monkeypatch.setattr(data.dataset, "states", lambda: states)
    watch = BatchWatch(data, CPU, Ranks())
    feed(watch, [1.0] * 40, [1.0, 1.2, 0.9])
    (finding,) = watch.read()[1]
    assert finding.name == "range.state"


def test_a_few_samples_are_measured_but_not_judged(data: TrainingData) -> None:
    watch = BatchWatch(data, CPU, Ranks())
    feed(watch, [1.0] * 5, [1.0, 1.2, 0.9], scale=3)
    measures, findings = watch.read()
    assert (measures.samples, findings) == (40, [])
    assert measures.action_outside[1] > 0.5
    feed(watch, [1.0] * 30, [1.0, 1.2, 0.9], scale=3)
    assert [finding.name for finding in watch.read()[1]] == ["range.action"], "with those of the record before"


def test_padded_steps_are_not_counted() -> None:
    actions = torch.full((2, 3, 2), 5.0)
    valid = torch.tensor([[True, False, False], [True, True, False]])
    outside, steps = count_outside(actions, valid, 1.0)
    assert (outside.tolist(), float(steps)) == ([3, 3], 3)
    assert float(count_outside(actions, None, 1.0)[1]) == 6


def test_one_dimension_that_makes_the_loss_is_named(data: TrainingData) -> None:
    watch = BatchWatch(data, CPU, Ranks())
    feed(watch, [1.0] * 40, [1.0, 9.0, 0.9])
    (finding,) = watch.read()[1]
    assert finding.name == "loss.dimension"
    assert "action_1 makes 83% of the loss" in finding.text
    assert list(judge_loss_shares(np.array([0.9, 0.1]), ["x", "y"])) == [], "of two, one always makes half"
    assert len(list(judge_loss_shares(np.array([0.55, 0.2, 0.15, 0.1]), list("abcd")))) == 1


def test_a_spike_is_told_with_the_samples_that_make_it(data: TrainingData) -> None:
    watch = BatchWatch(data, CPU, Ranks())
    losses = np.random.default_rng(0).gamma(20, 0.05, 100).tolist()
    feed(watch, losses, [1.0, 1.2, 0.9])
    assert watch.read()[1] == []
    feed(watch, [1.0, 1.1, 9.0, 0.9], [1.0, 1.2, 0.9])
    (finding,) = [each for each in watch.read()[1] if each.name == "loss.spike"]
    assert "the loss jumped to 9 at step 3, 9." in finding.text
    assert "frame 7 (episode 6)" in finding.text
    assert finding.numbers["episodes"][0] == 6


def test_the_first_losses_are_compared_with_nothing() -> None:
    assert usual_loss([1.0] * 10) is None
    assert usual_loss([1.0] * 60) == (1.0, 0.0)
    assert is_spike(3.5, 1.0, 0.2)
    assert not is_spike(2.5, 1.0, 0.1), "not three times the usual"
    assert not is_spike(3.5, 1.0, 0.5), "where losses come and go that far"


def test_only_those_samples_are_named_without_which_the_rest_is_as_usual() -> None:
    """Sound episodes must not be left out because they were in the same batch as a broken one."""
    finding = tell_spike(12, 14.0, 1.0, [(1.0, 5, 0), (40.0, 8, 2), (1.0, 6, 1)])
    assert "95% of it is frame 8 (episode 2)" in finding.text
    assert finding.numbers["episodes"] == [2]
    assert "look at this frame; if it is broken, --dataset.exclude_episodes '[2]'" in finding.remedy
    two = tell_spike(12, 20.0, 1.0, [(1.0, 5, 0), (30.0, 8, 2), (1.0, 6, 1), (48.0, 9, 4)])
    assert "98% of it are frame 9 (episode 4), frame 8 (episode 2)" in two.text
    assert two.numbers["episodes"] == [4, 2]
    sums = [(70.0, 5, 0), (2800.0, 8, 2), (70.0, 6, 1)]  # over 70 entries of each, as `StepResult` has them
    assert tell_spike(12, 14.0, 1.0, sums).numbers["episodes"] == [2]
    assert tell_spike(12, 7.0, 1.0, [(7.0, 3, 5)]).numbers["episodes"] == [5], "a batch of one"


@pytest.mark.parametrize(
    "samples", [[(5.0, 1, 0)] * 32, [(9.0, 1, 0)] * 6 + [(1.0, 2, 1)] * 6, [(7.0, 3, 3), (7.0, 4, 4)]]
)
def test_where_no_few_samples_make_a_spike_none_is_named(samples: list[tuple[float, int, int]]) -> None:
    finding = tell_spike(12, 5.0, 1.0, samples)
    assert f"no few of its {len(samples)} samples make it" in finding.text
    assert finding.numbers["episodes"] == []
    assert "exclude" not in finding.remedy


def test_reading_waits_for_nothing_between_records(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """`add` may not read a value: on a GPU that would wait for it."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a value was read")

    watch = BatchWatch(data, CPU, Ranks())
    for name in ("item", "tolist", "__bool__", "__float__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    actions = torch.ones(2, 10, 32)
    kept = StepResult(
        step=1,
        samples=2,
        learning_rate=0.1,
        loss=torch.ones(()),
        grad_norm=torch.ones(()),
        sample_losses=torch.ones(2),
        dimension_losses=torch.ones(32),
    )
    watch.add(
        kept, [a_batch(actions, torch.ones(2, 10, dtype=torch.bool))], BatchOrigin(frames=[1, 2], episodes=[0, 0])
    )


def test_sound_data_normalised_by_their_own_quantiles_are_in_range(data: TrainingData) -> None:
    loader = build_loader(TrainConfig(from_scratch=True, network="tiny", batch_size=64, num_workers=0), data)
    batch, info = next(iter(loader))
    watch = BatchWatch(data, CPU, Ranks())
    for step in range(1, 6):
        origin = BatchOrigin(frames=info.frame_indices.tolist(), episodes=info.episodes.tolist())
        watch.add(result(step, 1.0, [1.0, 1.0, 1.0], [1.0] * 64), [batch], origin)
    measures, findings = watch.read()
    assert findings == []
    assert measures.samples >= batches.ENOUGH_SAMPLES
    assert 0 < measures.action_outside.max() < 0.06
