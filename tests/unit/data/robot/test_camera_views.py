"""Two cameras that have changed places are told where their pictures tell them apart, and sound ones never."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from check_subjects import scene

from pi05.data.robot.camera_view import CameraView, shrink
from pi05.data.robot.camera_views import exchanged, views_of

SLOTS = ["scene", "left_wrist", "right_wrist"]
EPISODES = [list(range(100 * e, 100 * e + 40)) for e in range(5)]


def look(frame: int) -> np.ndarray:
    """Return a table from the front and from its left, and a grey wall that shows nothing."""
    wall = np.full_like(scene("front", 0, 0), 120)
    wall += np.random.default_rng(frame).integers(0, 4, wall.shape).astype(np.uint8)
    return np.stack([*(scene(camera, frame // 100, frame % 100) for camera in ("front", "left")), wall])


def learned(slots: list[str] = SLOTS) -> dict[str, CameraView]:
    return views_of(lambda frame: look(frame)[: len(slots)], slots, EPISODES)


def small(frame: int, order: tuple[int, ...] = (0, 1, 2)) -> dict[str, np.ndarray]:
    """Return the pictures of a later look, by slot, those of other cameras where the order says so."""
    return {slot: shrink(look(frame)[number]) for slot, number in zip(SLOTS, order, strict=False)}


def test_views_are_of_each_slots_own_pictures() -> None:
    episodes = [list(range(100 * e, 100 * e + 40)) for e in range(5)]
    asked: set[int] = set()

    def images(frame: int) -> np.ndarray:
        asked.add(frame)
        return np.stack([scene(camera, frame // 100, frame % 100) for camera in ("front", "left")])

    views = views_of(images, ["scene", "left_wrist"], episodes)
    assert set(views) == {"scene", "left_wrist"}
    assert np.abs(views["scene"].mean.astype(int) - views["left_wrist"].mean).mean() > 10
    assert views["left_wrist"].differences(scene("left", 1, 7)) == ()
    assert asked <= {frame for own in episodes for frame in own}


def test_episodes_may_be_of_any_lengths() -> None:
    episodes = [list(range(100 * e, 100 * e + 8 + 3 * e)) for e in range(5)]
    views = views_of(lambda frame: look(frame)[:2], SLOTS[:2], episodes)
    assert set(views) == set(SLOTS[:2])


def test_no_episodes_are_no_views() -> None:
    assert views_of(lambda frame: [], ["scene"], []) == {}


def test_cameras_that_have_changed_places_are_told_in_every_look() -> None:
    views = learned()
    assert "left_wrist" in views["scene"].apart
    assert "scene" in views["left_wrist"].apart
    for frame in range(910, 940, 5):
        assert exchanged(small(frame, (1, 0, 2)), views) == {"scene": "left_wrist", "left_wrist": "scene"}
        assert exchanged(small(frame), views) == {}


def test_a_camera_that_is_not_in_use_is_passed_over() -> None:
    views = learned()
    assert exchanged({"scene": small(910)["left_wrist"]}, views) == {}
    assert exchanged(small(910, (1, 0, 2)), {"scene": views["scene"]}) == {}


def test_two_cameras_that_see_the_same_are_not_told_apart() -> None:
    views = views_of(lambda frame: look(frame)[[0, 0]], SLOTS[:2], EPISODES)
    assert {slot: view.apart for slot, view in views.items()} == {"scene": (), "left_wrist": ()}
    assert exchanged(small(910, (1, 0)), views) == {}


def test_cameras_that_were_exchanged_in_some_episodes_are_not_told_apart() -> None:
    views = views_of(lambda frame: look(frame)[[1, 0] if frame >= 400 else [0, 1]], SLOTS[:2], EPISODES)
    assert {slot: view.apart for slot, view in views.items()} == {"scene": (), "left_wrist": ()}


def test_pictures_of_another_world_fit_nowhere() -> None:
    """Noise, which one order fits better than the other by chance."""
    views = learned()
    for seed in range(200):
        strange = np.random.default_rng(seed).integers(0, 256, (3, 8, 8, 3), np.uint8)
        assert exchanged(dict(zip(SLOTS, strange, strict=True)), views) == {}


def test_what_is_told_apart_survives_being_written() -> None:
    views = learned()
    again = {slot: CameraView.from_dict(view.to_dict()) for slot, view in views.items()}
    assert {slot: view.apart for slot, view in again.items()} == {slot: view.apart for slot, view in views.items()}
    older = replace(views["scene"], apart=()).to_dict()
    assert "apart" not in older
    assert CameraView.from_dict(older).apart == ()
