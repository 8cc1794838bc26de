"""Every finding on pictures, with videos that must trip it and videos that must not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_subjects import Picture, found, make_subject, scene, write_set

from pi05.check.pictures.family import check_pictures
from pi05.check.subject import Subject
from pi05.data.cameras import CameraSlots
from pi05.data.lerobot.reader import Dataset
from pi05.finding import Finding

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
ALL, SOME = range(6), (2,)


def silent(done: int, total: int, what: str) -> None:
    pass


def look(root: Path, picture: Picture | None = None, **settings: Any) -> dict[str, Finding]:
    dataset = write_set(root / "set", cameras=("front", "wrist"), length=16, picture=picture)
    return found(check_pictures(make_subject(dataset, **settings), silent))


def instead(episodes: Any, change: Callable[[np.ndarray], np.ndarray]) -> Picture:
    """Return pictures of the front camera that are changed in some episodes."""

    def picture(camera: str, episode: int, frame: int) -> np.ndarray:
        seen = scene(camera, episode, frame)
        return np.ascontiguousarray(change(seen)) if camera == "front" and episode in episodes else seen

    return picture


def frozen(episodes: Any) -> Picture:
    def picture(camera: str, episode: int, frame: int) -> np.ndarray:
        return scene(camera, episode, 0 if camera == "front" and episode in episodes else frame)

    return picture


def doubled(episodes: Any) -> Picture:
    return lambda camera, episode, frame: scene("front" if episode in episodes else camera, episode, frame)


def test_sound_pictures_have_nothing_to_mend(tmp_path: Path) -> None:
    told = look(tmp_path)
    assert {finding.status for finding in told.values()} == {"note", "ok"}
    moved = told["pictures.motion"].numbers
    assert moved["left_wrist"] > 2 * moved["scene"]


BREAKS: dict[str, Callable[[Any], Picture]] = {
    "pictures.empty": lambda episodes: instead(episodes, np.zeros_like),
    "pictures.frozen": frozen,
    "pictures.same_camera": doubled,
}


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("episodes", [ALL, SOME])
def test_a_broken_camera_is_an_error_in_all_episodes_and_a_warning_in_some(
    tmp_path: Path, name: str, episodes: Any
) -> None:
    told = {n: f for n, f in look(tmp_path, BREAKS[name](episodes)).items() if f.to_mend}
    assert name in told
    assert told[name].status == ("error" if episodes is ALL else "warning")
    assert list(told[name].numbers["episodes"]) == list(episodes)
    flag = "--drop_cameras" if episodes is ALL else "--dataset.exclude_episodes='[2]'"
    assert flag in told[name].remedy


@pytest.mark.parametrize(
    ("change", "name", "word"),
    [
        (lambda picture: picture // 3, "pictures.brightness", "darker"),
        (lambda picture: picture[..., ::-1], "pictures.colour", "red and blue"),
        (lambda picture: picture[::-1, ::-1], "pictures.orientation", "upside down"),
        (lambda picture: picture[:, ::-1], "pictures.orientation", "left to right"),
    ],
)
def test_an_episode_unlike_the_others_is_named(tmp_path: Path, change: Any, name: str, word: str) -> None:
    told = {n: f for n, f in look(tmp_path, instead(SOME, change)).items() if f.to_mend}
    assert set(told) == {name}
    assert told[name].status == "warning"
    assert word in told[name].text
    assert list(told[name].numbers["episodes"]) == [2]


def test_moments_without_a_picture(tmp_path: Path) -> None:
    def picture(camera: str, episode: int, frame: int) -> np.ndarray:
        seen = scene(camera, episode, frame)
        return np.zeros_like(seen) if (camera, episode, frame) == ("front", 2, 0) else seen

    told = {n: f for n, f in look(tmp_path, picture).items() if f.to_mend}
    assert set(told) == {"pictures.gaps"}
    assert told["pictures.gaps"].numbers["episodes"] == [2]


def test_wrist_and_scene_exchanged(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", cameras=("front", "wrist"), length=16)
    crossed = make_subject(dataset, slots=CameraSlots(scene=WRIST, left_wrist=FRONT))
    told = found(check_pictures(crossed, silent), "warning")
    assert set(told) == {"pictures.slots"}
    assert f'"{FRONT}": "scene"' in told["pictures.slots"].remedy


def test_a_video_that_cannot_be_decoded_is_named_and_the_others_are_looked_at(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", cameras=("front", "wrist"), length=16)
    subject = make_subject(dataset)
    video = next((tmp_path / "set" / "videos" / FRONT).rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:-3000])
    heard: list[int] = []
    told = found(check_pictures(subject, lambda done, total, what: heard.append(done)))
    refused = told["pictures.unreadable"]
    assert refused.status == "error"
    assert (refused.numbers["camera"], refused.numbers["episodes"]) == (FRONT, list(ALL))
    assert heard[: len(ALL) + 1] == [*ALL, 6]
    assert "pictures.empty" not in told


def test_without_pictures_nothing_is_said(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=1)
    assert list(check_pictures(Subject(dataset=dataset, episodes=[0]), silent)) == []


def test_real_pictures_have_no_error(shared: Path) -> None:
    dataset = Dataset(shared / "datasets" / "cr5_v30_5ep_onefile")
    told = found(check_pictures(Subject(dataset=dataset, episodes=[0, 2]), silent), "error", "warning")
    assert told == {}
