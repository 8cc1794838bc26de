"""The cameras of a robot together: what each showed in training, and whether two have changed places since.

A computer numbers its cameras anew when it starts, or somebody puts the cables back the other way round: each picture
is sound, and comes under the other's name. Two pictures that fit what the two cameras showed clearly better when they
are exchanged are told. They are only where no look of the training was like that: two cameras that see the same table
from the same side cannot be told apart, and then nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from jaxtyping import UInt8

from pi05.data.robot.camera_view import ALIKE, CameraView, averaged, shrink, view_of

FRAMES, EPISODES = 240, 60
"""Training frames that are looked at, of so many episodes, spread evenly."""
CLEARLY = 2.0
"""Two pictures fit so many times better when they are exchanged; in training none fits better at all."""

Small = UInt8[np.ndarray, "8 8 3"]
Looks = UInt8[np.ndarray, "_ 8 8 3"]


def views_of(
    images: Callable[[int], Sequence[np.ndarray] | np.ndarray], slots: Sequence[str], episodes: Sequence[Sequence[int]]
) -> dict[str, CameraView]:
    """Return what each slot's camera showed in the frames of some episodes; `images` gives a frame's, by slot."""
    chosen = [episodes[i] for i in spread(len(episodes), EPISODES)]
    frames = [[own[i] for i in spread(len(own), -(-FRAMES // len(chosen)))] for own in chosen]
    looks = [np.array([[shrink(picture) for picture in images(frame)] for frame in own]) for own in frames if own]
    small = {slot: [own[:, number] for own in looks] for number, slot in enumerate(slots)}
    found = {slot: view for slot in slots if (view := view_of(small[slot])) is not None}
    pairs = [pair for pair in combinations(found, 2) if _can_be_told_apart(*(small[slot] for slot in pair))]
    return {
        slot: replace(view, apart=tuple(other for pair in pairs if slot in pair for other in pair if other != slot))
        for slot, view in found.items()
    }


def exchanged(pictures: Mapping[str, Small], views: Mapping[str, CameraView]) -> dict[str, str]:
    """Return, of the slots whose pictures fit clearly better when they change places, which with which.

    They have to fit well then, too: of a scene that was not trained on, no picture fits anywhere.
    """
    found: dict[str, str] = {}
    for one, other in combinations([slot for slot in pictures if slot in views], 2):
        told_apart = other in views[one].apart and one in views[other].apart
        if told_apart and have_changed((views[one], views[other]), [(pictures[one], pictures[other])]):
            found |= {one: other, other: one}
    return found


def have_changed(views: tuple[CameraView, CameraView], looks: Sequence[tuple[Small, Small]]) -> bool:
    """Tell whether the pictures of two cameras, over some looks, fit well, and clearly better, when exchanged."""
    as_they_are, changed = np.mean([_misfits(views, pictures) for pictures in looks], axis=0).tolist()
    return bool(CLEARLY * changed < as_they_are and changed < 2 * (1 - ALIKE))


def _can_be_told_apart(one: Sequence[Looks], other: Sequence[Looks]) -> bool:
    """Tell whether two cameras' pictures fit best as they are in all looks, each episode judged by the others."""
    for number in range(len(one)):
        views = tuple(averaged([*each[:number], *each[number + 1 :]]) for each in (one, other))
        for pictures in zip(one[number], other[number], strict=True):
            as_they_are, changed = _misfits((views[0], views[1]), pictures)
            if changed <= as_they_are:
                return False
    return True


def _misfits(views: tuple[CameraView, CameraView], pictures: tuple[Small, Small]) -> tuple[float, float]:
    """Return how badly two pictures fit two views as they are, and exchanged."""
    grey = [picture.astype(np.float64).mean(axis=2) for picture in pictures]
    as_they_are = sum(view.misfit(each) for view, each in zip(views, grey, strict=True))
    changed = sum(view.misfit(each) for view, each in zip(views, reversed(grey), strict=True))
    return float(as_they_are), float(changed)


def spread(count: int, most: int) -> list[int]:
    """Return up to so many numbers under `count`, evenly spaced, the first and the last among them."""
    places: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return places
