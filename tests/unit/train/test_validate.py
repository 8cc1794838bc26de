"""The held-out error: robot units, valid steps only, zero noise, a baseline that learns nothing."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from pi05.errors import TrainingError
from pi05.model.config import tiny
from pi05.train.config import DatasetConfig, PolicyConfig, TrainConfig
from pi05.train.data import TrainingData, build_data
from pi05.train.resume import OpenRun
from pi05.train.validate import ActionError, Validator, action_moments, choose_frames, episode_list, root_mean_square
from pi05.types import Batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    folder = tmp_path_factory.mktemp("validate")
    fake = fakes.write_dataset(folder / "data", episodes=(12, 9, 7, 8, 11, 6, 9, 8, 7, 12))
    config = TrainConfig(
        from_scratch=True,
        network="tiny",
        dataset=DatasetConfig(root=str(fake.root), cache_dir=str(folder / "cache"), eval_split=0.2),
        policy=PolicyConfig(tokenizer_path=str(fakes.write_tokenizer(folder / "tokenizer.json"))),
    )
    return build_data(config, tiny(), Console(quiet=True), OpenRun(root=folder / "run"))


class Oracle(nn.Module):
    """Predicts the true actions of given frames, normalised, plus a constant in normalised units."""

    def __init__(self, data: TrainingData, frames: list[int], offset: float) -> None:
        super().__init__()
        processor = data.processor
        chunks = np.stack([data.dataset.action_chunk(frame, processor.horizon)[0] for frame in frames])
        self.answers = torch.from_numpy(processor.encode_actions(chunks, data.dataset.states()[frames])) + offset
        self.noises: list[Tensor] = []

    def sample_actions(self, batch: Batch, noise: Tensor, num_steps: int) -> Tensor:
        start = sum(len(part) for part in self.noises)
        self.noises.append(noise)
        return self.answers[start : start + len(noise)]


def test_a_perfect_policy_has_no_error_and_an_offset_has_its_size(data: TrainingData) -> None:
    validator = Validator(data, max_frames=10, batch_size=4)
    frames = choose_frames(data, 10)
    perfect = validator.measure(Oracle(data, frames, 0.0), CPU)
    assert perfect.error.max() < 1e-5
    assert perfect.frames == 10
    shifted = validator.measure(Oracle(data, frames, 0.5), CPU)
    half_range = (data.processor.action_stats.q99 - data.processor.action_stats.q01) / 2
    assert np.allclose(shifted.error, 0.5 * half_range, rtol=1e-3)
    assert np.array_equal(shifted.baseline, perfect.baseline)


def test_noise_is_zero_so_that_nothing_is_left_to_chance(data: TrainingData) -> None:
    oracle = Oracle(data, choose_frames(data, 10), 0.0)
    Validator(data, max_frames=10, batch_size=4).measure(oracle, CPU)
    assert torch.cat(oracle.noises).shape == (10, 10, 32)
    assert not torch.cat(oracle.noises).any()


def test_a_run_that_is_stopped_does_not_wait_for_the_measurement(data: TrainingData) -> None:
    """However slow the network, the request is heeded before the next batch."""
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(len(oracle.noises))
        return len(asked) == 3

    oracle = Oracle(data, choose_frames(data, 10), 0.0)
    oracle.train()
    assert Validator(data, max_frames=10, batch_size=2).measure(oracle, CPU, stopped) is None
    assert asked == [0, 1, 2]
    assert oracle.training


def test_predictions_that_are_not_finite_end_the_run(data: TrainingData) -> None:
    with pytest.raises(TrainingError, match="not finite; no checkpoint was written") as refusal:
        Validator(data, max_frames=4, batch_size=2).measure(Oracle(data, choose_frames(data, 4), float("nan")), CPU)
    assert "4 of 4 frames" in str(refusal.value.found)


def test_the_baseline_is_the_mean_of_the_training_actions(data: TrainingData) -> None:
    mean, scale = action_moments(data)
    train = data.dataset.actions()[data.frames_of(data.train_episodes)]
    assert np.allclose(mean, train.mean(axis=0), atol=1e-5)
    assert np.allclose(scale, train.std(axis=0), atol=1e-5)
    validator = Validator(data, max_frames=10_000, batch_size=64)
    frames = data.frames_of(data.held_out)
    total, count = np.zeros(3), 0
    for frame in frames:
        chunk, padded = data.dataset.action_chunk(frame, data.processor.horizon)
        total += np.square(chunk[~padded] - mean).sum(axis=0)
        count += int((~padded).sum())
    assert np.allclose(validator.measure(Oracle(data, frames, 0.0), CPU).baseline, np.sqrt(total / count), rtol=1e-5)


@pytest.mark.parametrize("glitches", [1, 3])
def test_broken_frames_do_not_make_every_error_look_small(
    data: TrainingData, glitches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean, scale = action_moments(data)
    actions = data.dataset.actions().copy()
    actions[data.frames_of(data.train_episodes)[5 : 5 + 4 * glitches : 4], 1] = 1e4
    monkeypatch.setattr(data.dataset, "actions", lambda: actions)
    robust_mean, robust_scale = action_moments(data)
    assert np.allclose(robust_mean, mean, atol=0.2 * scale.max())
    assert np.allclose(robust_scale, scale, rtol=0.3)
    assert np.allclose(robust_scale[[0, 2]], scale[[0, 2]])


def test_frames_are_held_out_and_spread(data: TrainingData) -> None:
    frames = choose_frames(data, 6)
    assert len(set(frames)) == 6
    held_out = data.frames_of(data.held_out)
    assert {frames[0], frames[-1]} == {held_out[0], held_out[-1]}
    assert not set(held_out) & set(data.frames_of(data.train_episodes))
    assert choose_frames(data, 10_000) == held_out


def test_padded_steps_do_not_count() -> None:
    actions = np.zeros((1, 3, 2))
    predicted = np.array([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    found = root_mean_square(predicted, actions, np.array([[True, True, False]]))
    assert found.tolist() == pytest.approx([np.sqrt(5), np.sqrt(10)])


def test_constant_dimensions_are_listed_but_do_not_count() -> None:
    error = ActionError(
        names=("x", "y"),
        error=np.array([0.1, 5.0]),
        baseline=np.array([0.4, 0.0]),
        scale=np.array([0.5, 0.0]),
        frames=8,
        episodes=1,
        seconds=0.1,
    )
    assert error.score == pytest.approx(0.2)
    assert error.baseline_score == pytest.approx(0.8)
    text = error.render(250, best=True)
    assert text == (
        "held out, step 250: action error 0.200, repeating the mean action 0.800 standard deviations: "
        "better than the mean action, best so far\n"
        "  root mean square error in robot units (of the mean action): x 0.1 (0.4), y 5 (0)"
    )
    assert error.record(250, True)["dimensions"] == {
        "x": {"error": 0.1, "baseline": 0.4},
        "y": {"error": 5.0, "baseline": 0.0},
    }


def test_episode_list() -> None:
    assert episode_list([4]) == "episode 4"
    assert episode_list(list(range(14)), most=2) == "episodes 0, 1 and 12 more"


def test_observations_come_from_the_cache_as_the_policy_would_see_them(data: TrainingData, tmp_path: Path) -> None:
    frame = data.frames_of(data.held_out)[3]
    direct = data.processor.encode(data.dataset.frame(frame))
    cached = data.observation(frame)
    assert np.array_equal(direct.images, cached.images)
    assert np.array_equal(direct.tokens, cached.tokens)
    assert np.array_equal(direct.image_mask, cached.image_mask)
