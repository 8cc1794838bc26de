from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np

from pi05.data.lerobot.reader import Dataset
from pi05.eval.open_loop.looks import choose_looks, observe


def test_looks_follow_each_other_through_whole_episodes(tmp_path: Path) -> None:
    fake = fakes.write_dataset(tmp_path / "data", episodes=(7, 5, 6), storage="image")
    dataset = Dataset(tmp_path / "data")
    looks = choose_looks(dataset, [2, 0], stride=3, horizon=4)
    assert looks.frames == (12, 15, 0, 3, 6)
    assert looks.episodes.tolist() == [2, 2, 0, 0, 0]
    assert looks.steps.tolist() == [0, 3, 0, 3, 6]
    assert looks.valid.sum(axis=1).tolist() == [4, 3, 4, 4, 1]
    assert looks.executed.sum(axis=1).tolist() == [3, 3, 3, 3, 1]  # all frames of both episodes, once each
    np.testing.assert_array_equal(looks.actions[3], fake.actions[3:7])
    assert looks.of(0).tolist() == [2, 3, 4]


def test_a_frame_is_observed_as_a_robot_sends_it(tmp_path: Path) -> None:
    fake = fakes.write_dataset(tmp_path / "data", storage="image")
    seen = observe(Dataset(tmp_path / "data"), [fakes.CAMERAS[1]], 13)
    assert list(seen) == [fakes.CAMERAS[1], "observation.state", "task"]
    assert fakes.read_frame_number(seen[fakes.CAMERAS[1]]) == (13, 1)
    np.testing.assert_array_equal(seen["observation.state"], fake.states[13])
    assert seen["task"] == fake.task_of_frame[13]
