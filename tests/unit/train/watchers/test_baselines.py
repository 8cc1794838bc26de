"""What needs no learning: each chunk is exactly what its name says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pi05.train.data import TrainingData
from pi05.train.validate import Validator, action_moments, choose_frames
from pi05.train.watchers import baselines
from pi05.train.watchers.baselines import (
    HOLDING_ACTION,
    HOLDING_STATE,
    NEAREST,
    baseline_chunks,
    last_actions,
    nearest_frames,
    paired_states,
)


def follow(data: TrainingData, monkeypatch: pytest.MonkeyPatch, actions: np.ndarray) -> None:
    monkeypatch.setattr(data.dataset, "actions", lambda: actions)


def test_holding_the_last_action_is_the_one_before_the_frame(data: TrainingData) -> None:
    start, length = data.dataset.episodes[3].start, data.dataset.episodes[3].length
    mean = np.array([7.0, 8.0, 9.0])
    found = last_actions(data, [start, start + 1, start + length - 1], mean)
    actions = data.dataset.actions()
    assert found[0].tolist() == mean.tolist(), "an episode's first frame has none before it"
    assert np.array_equal(found[1:], actions[[start, start + length - 2]])


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [("wanted states", True), ("velocities", False), ("differences", False), ("other joints", False)],
)
def test_states_are_held_where_actions_are_wanted_states(
    data: TrainingData, kind: str, pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    states = np.cumsum(rng.normal(size=(data.dataset.num_frames, 4)), axis=0).astype(np.float32)
    step = np.diff(states[:, :3], axis=0, append=states[-1:, :3])
    kinds = {
        "wanted states": states[:, :3] + step,
        "velocities": 30 * rng.normal(size=step.shape),
        "differences": step,
        "other joints": rng.permutation(states[:, :3]),
    }
    monkeypatch.setattr(data.dataset, "states", lambda: states)
    follow(data, monkeypatch, kinds[kind].astype(np.float32))
    assert (paired_states(data) is not None) == pairs
    frames = choose_frames(data, 6)
    found = baseline_chunks(data, frames, action_moments(data)[0])
    assert (HOLDING_STATE in found) == pairs
    if pairs:
        assert np.allclose(found[HOLDING_STATE], states[frames][:, None, :3])


def test_states_pair_by_name_before_they_pair_by_place(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    states = data.dataset.states()
    monkeypatch.setattr(data.dataset, "state_names", ["b", "grip", "a", "c"])
    monkeypatch.setattr(data.dataset, "action_names", ["a", "b", "speed"])
    follow(data, monkeypatch, np.stack([states[:, 2], states[:, 0], states[:, 3]], axis=1) * np.float32(1.01))
    assert paired_states(data) == [2, 0, None]
    mean = np.array([5.0, 5.0, 5.0])
    held = baseline_chunks(data, choose_frames(data, 4), mean)[HOLDING_STATE]
    assert np.all(held[..., 2] == 5.0), "a dimension without a state of its own holds the mean"


@pytest.mark.parametrize("block", [8_192, 7])
def test_the_nearest_frame_is_the_nearest_of_the_same_task(
    data: TrainingData, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "BLOCK", block)
    frames = choose_frames(data, 9)
    found = nearest_frames(data, frames)
    train, states = data.frames_of(data.train_episodes), data.dataset.states()
    low, high = np.quantile(states[train], [0.01, 0.99], axis=0)
    for frame, nearest in zip(frames, found, strict=True):
        same = [other for other in train if data.dataset.task(other) == data.dataset.task(frame)]
        distances = np.square((states[same] - states[frame]) / (high - low)).sum(axis=1)
        assert nearest == same[int(distances.argmin())]
        assert nearest in train, "a held-out frame is never its own neighbour"


def test_the_nearest_chunk_goes_on_from_the_own_state_where_actions_are_relative(make_data: Any) -> None:
    data = make_data(policy={"use_relative_actions": True, "relative_exclude_joints": ("action_2",)})
    frames = choose_frames(data, 5)
    found = baseline_chunks(data, frames, np.zeros(3))[NEAREST]
    nearest, states = nearest_frames(data, frames), data.dataset.states()
    for place, (frame, other) in enumerate(zip(frames, nearest, strict=True)):
        own, _ = data.dataset.action_chunk(int(other), data.processor.horizon)
        assert np.allclose(found[place, :, 2], own[:, 2])
        assert np.allclose(found[place, :, :2], own[:, :2] - states[other, :2] + states[frame, :2], atol=1e-5)


def test_of_many_frames_a_sample_is_compared(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_FRAMES", 10)
    sampled = baselines.sample_frames(data)
    train = data.frames_of(data.train_episodes)
    assert len(sampled) == 10
    assert {sampled[0], sampled[-1]} == {train[0], train[-1]}
    assert set(nearest_frames(data, choose_frames(data, 9)).tolist()) <= set(sampled)


def test_holding_the_last_action_wins_where_actions_go_slowly(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the arm of the GR1 set: there the mean action, and praise against it, say nothing."""
    actions = np.cumsum(np.random.default_rng(1).normal(size=(data.dataset.num_frames, 3)), axis=0).astype(np.float32)
    follow(data, monkeypatch, actions)
    monkeypatch.setattr(
        data.dataset,
        "action_chunk",
        lambda i, horizon: (np.repeat(actions[i : i + 1], horizon, 0), np.zeros(horizon, bool)),
    )
    validator = Validator(data, max_frames=12, batch_size=12)
    scores = {name: measured.score for name, measured in validator._baselines.items()}
    assert min(scores, key=scores.__getitem__) == HOLDING_ACTION
