"""The held-out error: robot units, valid steps only, zero noise, a baseline that learns nothing."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from pi05.data.measures.baselines import MEAN_ACTION
from pi05.errors import TrainingError
from pi05.model.config import tiny
from pi05.train.config import DatasetConfig, PolicyConfig, TrainConfig
from pi05.train.data import TrainingData, build_data
from pi05.train.resume import OpenRun
from pi05.train.validate import Validator, action_moments, choose_frames, episode_list
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
        """Answer the frames in their order; what comes after them, the inputs taken away, with the first ones again."""
        start = sum(len(part) for part in self.noises)
        self.noises.append(noise)
        return self.answers[torch.arange(start, start + len(noise)) % len(self.answers)]


def test_a_perfect_policy_has_no_error_and_an_offset_has_its_size(data: TrainingData) -> None:
    validator = Validator(data, max_frames=10, batch_size=4)
    frames = choose_frames(data, 10)
    perfect = validator.measure(Oracle(data, frames, 0.0), CPU)
    assert perfect.policy.error.max() < 1e-5
    assert perfect.frames == 10
    shifted = validator.measure(Oracle(data, frames, 0.5), CPU)
    half_range = (data.processor.action_stats.q99 - data.processor.action_stats.q01) / 2
    assert np.allclose(shifted.policy.error, 0.5 * half_range, rtol=1e-3)
    assert shifted.baselines is perfect.baselines


def test_noise_is_zero_so_that_nothing_is_left_to_chance(data: TrainingData) -> None:
    oracle = Oracle(data, choose_frames(data, 10), 0.0)
    Validator(data, max_frames=10, batch_size=4).measure(oracle, CPU)
    assert torch.cat(oracle.noises).shape[1:] == (10, 32)
    assert sum(len(noise) for noise in oracle.noises) >= 10
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
    assert np.allclose(
        validator.measure(Oracle(data, frames, 0.0), CPU).baselines[MEAN_ACTION].error,
        np.sqrt(total / count),
        rtol=1e-5,
    )


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


def test_what_is_measured_beside_the_error(data: TrainingData) -> None:
    """Baselines on the same frames, and each input taken away."""
    frames = choose_frames(data, 10)
    oracle = Oracle(data, frames, 0.0)
    found = Validator(data, max_frames=10, batch_size=10).measure(oracle, CPU)
    assert set(found.baselines) >= {MEAN_ACTION, "holding the last action", "nearest training frame"}
    assert set(found.effects) == {"camera scene", "camera wrist", "state", "task"}
    assert all(np.isfinite(value) for value in found.effects.values())


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
