"""Cameras that have changed places in some episodes are named, and sound ones never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from check_subjects import Picture, found, scene, write_set

from pi05.check.pictures.family import check_pictures
from pi05.check.subject import Subject
from pi05.finding import Finding

FRONT, SIDE = "observation.images.front", "observation.images.left"


def changed(episodes: Any) -> Picture:
    names = {"front": "left", "left": "front"}
    return lambda camera, episode, frame: scene(names[camera] if episode in episodes else camera, episode, frame)


def told(root: Path, episodes: Any, count: int = 6) -> dict[str, Finding]:
    dataset = write_set(root / "set", cameras=("front", "left"), length=16, episodes=count, picture=changed(episodes))
    subject = Subject(dataset=dataset, episodes=range(count))
    return found(check_pictures(subject, lambda done, total, what: None), "error", "warning")


@pytest.mark.parametrize("episodes", [[2], [0, 5]])
def test_episodes_with_exchanged_cameras_are_named(tmp_path: Path, episodes: list[int]) -> None:
    finding = told(tmp_path, episodes)["pictures.exchanged"]
    assert finding.numbers == {"cameras": [FRONT, SIDE], "episodes": episodes}
    assert "--dataset.exclude_episodes=" in finding.remedy
    assert f"{FRONT} and {SIDE} have changed places in episodes {', '.join(map(str, episodes))}:" in finding.text


@pytest.mark.parametrize(("episodes", "count"), [([], 6), (range(6), 6), ([1], 2), ([0], 1)])
def test_nothing_is_said_of_what_is_sound_the_same_throughout_or_too_little(
    tmp_path: Path, episodes: Any, count: int
) -> None:
    assert "pictures.exchanged" not in told(tmp_path, episodes, count)
