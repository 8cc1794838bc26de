from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from pi05.data.lerobot.reader import Dataset
from pi05.data.measures import baselines
from pi05.data.measures.baselines import (
    HOLDING_ACTION,
    HOLDING_STATE,
    MEAN_ACTION,
    NEAREST,
    Demonstrations,
    baseline_chunks,
    nearest_frames,
    paired_states,
)

LENGTHS = (12, 9, 7, 10)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    fakes.write_dataset(tmp_path / "data", episodes=LENGTHS, storage="image", height=24, width=24)
    return Dataset(tmp_path / "data")


def known(dataset: Dataset, frames: Any, **changes: Any) -> Demonstrations:
    mean = dataset.actions()[list(frames)].mean(axis=0, dtype=np.float64)
    return Demonstrations(dataset=dataset, frames=list(frames), mean=mean, horizon=4, **changes)


def test_each_baseline_does_what_its_name_says(dataset: Dataset) -> None:
    dataset.actions()[:] = dataset.states()[:, :3] + 0.01  # wanted states
    training = known(dataset, range(28))
    frames = [28, 31]
    found = baseline_chunks(training, frames)
    assert list(found) == [MEAN_ACTION, HOLDING_STATE, HOLDING_ACTION, NEAREST]
    assert all(chunks.shape == (2, 4, 3) for chunks in found.values())
    np.testing.assert_allclose(found[MEAN_ACTION][1, 3], training.mean)
    np.testing.assert_allclose(found[HOLDING_STATE][1, 3], dataset.states()[31, :3])
    np.testing.assert_allclose(found[HOLDING_ACTION][0, 0], training.mean)  # an episode's first frame
    np.testing.assert_allclose(found[HOLDING_ACTION][1, 2], dataset.actions()[30])
    place = int(nearest_frames(training, [31])[0])  # type: ignore[index]
    np.testing.assert_allclose(found[NEAREST][1], dataset.action_chunk(place, 4)[0])


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [("wanted states", True), ("velocities", False), ("differences", False), ("other joints", False)],
)
def test_states_are_held_where_actions_are_wanted_states(dataset: Dataset, kind: str, pairs: bool) -> None:
    states, actions = dataset.states(), dataset.actions()
    phases = np.arange(len(states))[:, None] * [0.5, 0.9, 1.3, 1.7]
    states[:] = np.sin(phases)
    kinds = {
        "wanted states": np.sin(phases + 0.3)[:, :3],
        "velocities": 3 * np.cos(phases)[:, :3],
        "differences": np.cos(phases)[:, :3] / 3 - states[:, :3] / 20,
        "other joints": states[:, [2, 3, 0]],
    }
    actions[:] = kinds[kind]
    training = known(dataset, range(28))
    assert (paired_states(training) is not None) == pairs
    assert (HOLDING_STATE in baseline_chunks(training, [28, 31])) == pairs


def test_states_pair_by_name_before_they_pair_by_place(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    states = dataset.states()
    monkeypatch.setattr(dataset, "state_names", ["b", "grip", "a", "c"])
    monkeypatch.setattr(dataset, "action_names", ["a", "b", "speed"])
    dataset.actions()[:] = np.stack([states[:, 2], states[:, 0], states[:, 3]], axis=1) * 1.01
    training = known(dataset, range(28))
    assert paired_states(training) == [2, 0, None]
    held = baseline_chunks(training, [28, 31])[HOLDING_STATE]
    assert np.all(held[..., 2] == training.mean[2]), "a dimension without a state of its own holds the mean"


@pytest.mark.parametrize("pairs", [baselines.PAIRS, 60])
def test_the_nearest_frame_is_found_exactly(dataset: Dataset, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "PAIRS", pairs)
    train, frames, states = list(range(28)), list(range(28, 38)), dataset.states()
    found = nearest_frames(known(dataset, train), frames)
    assert found is not None
    low, high = np.quantile(states[train], [0.01, 0.99], axis=0)
    for frame, nearest in zip(frames, found, strict=True):
        same = [other for other in train if dataset.task(other) == dataset.task(frame)]
        distances = np.square((states[same] - states[frame]) / (high - low)).sum(axis=1)
        assert nearest == same[int(distances.argmin())]


def test_the_nearest_frame_is_of_the_same_task_and_another_episode(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = dataset.states()
    states[5] = states[3] + 1e-4  # the same episode
    states[14] = states[3] + 1e-3  # another task
    states[24] = states[3] + 1e-2
    everything = known(dataset, range(38))
    assert nearest_frames(everything, [3]).tolist() == [24]  # type: ignore[union-attr]
    monkeypatch.setattr(baselines, "PAIRS", 5)
    assert nearest_frames(everything, [3]).tolist() == [24]  # type: ignore[union-attr]
    assert nearest_frames(known(dataset, [4, 5, 14]), [3]).tolist() == [14]  # type: ignore[union-attr]
    assert nearest_frames(known(dataset, [4, 5]), [3]) is None
    assert NEAREST not in baseline_chunks(known(dataset, [4, 5]), [3])


def test_relative_dimensions_go_on_from_the_own_state(dataset: Dataset) -> None:
    training = known(dataset, range(28), relative_mask=(True, False, False))
    place = int(nearest_frames(training, [31])[0])  # type: ignore[index]
    chunk, states = dataset.action_chunk(place, 4)[0], dataset.states()
    found = baseline_chunks(training, [31])[NEAREST][0]
    np.testing.assert_allclose(found[:, 0], chunk[:, 0] - states[place, 0] + states[31, 0], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1:], chunk[:, 1:])


def test_of_many_frames_some_are_looked_at(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_FRAMES", 3)
    assert list(known(dataset, range(28)).sampled) == [0, 14, 27]
