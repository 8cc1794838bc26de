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


def test_velocities_are_no_wanted_states(dataset: Dataset) -> None:
    assert paired_states(known(dataset, range(28))) is None  # drawn apart from each other
    dataset.actions()[:] = dataset.states()[:, :3] * 0.9
    assert paired_states(known(dataset, range(28))) == [0, 1, 2]


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
