"""Look at every camera of every episode at a few moments, and keep some numbers and a thumbnail of each.

Frames are read in order, from key frame to key frame, so that a file is gone through once; what is kept of an episode
is a few kilobytes. Leaves out what the numbers mean (`family.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int16, UInt8
from PIL import Image

from pi05.data.lerobot.reader import Dataset
from pi05.data.resize import resize_with_pad
from pi05.data.robot import camera_view
from pi05.errors import DataError

MOMENTS = 5
"""Frames of an episode, from its first to its last."""
SMALL, TINY = 48, 16
"""Sides in pixels, of the pictures that are compared and of the thumbnail that is kept."""
CHANGED = 6
"""Grey values by which a pixel of the small picture has to change to count as changed: more than compression does."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Look:
    """One camera in one episode."""

    camera: str
    episode: int
    contrast: float
    """Greatest standard deviation inside one of the pictures, in grey values."""
    flat: int
    """Pictures of the few in which hardly anything varies."""
    brightness: float
    colour: Float32[np.ndarray, " 3"]
    """Mean of each channel."""
    change: float
    """Greatest mean difference of two of the pictures; 0 where all are the same."""
    moved: float
    """Share of the pixels that change from one moment to the next, the middle one of these shares."""
    tiny: Float32[np.ndarray, "16 16"]
    """Mean picture in grey."""
    squares: UInt8[np.ndarray, "moments 8 8 3"]
    """The pictures as the network gets them, black-padded, each of a few pixels."""


@dataclass(frozen=True, kw_only=True)
class Twins:
    """How far two cameras are apart in one episode."""

    cameras: tuple[str, str]
    episode: int
    difference: float
    """Greatest mean difference at the same moment, in grey values."""


@dataclass(kw_only=True)
class Looks:
    """What was seen of a data set."""

    looks: list[Look] = field(default_factory=list)
    twins: list[Twins] = field(default_factory=list)
    unreadable: list[tuple[str, int, DataError]] = field(default_factory=list)
    """Camera, episode, and what the reader says."""

    def of(self, camera: str) -> list[Look]:
        """Return the looks of one camera."""
        return [look for look in self.looks if look.camera == camera]


def take_looks(dataset: Dataset, episodes: Sequence[int], cameras: Sequence[str], progress: Progress) -> Looks:
    """Look at these cameras of these episodes. What cannot be decoded is noted, and the rest is looked at."""
    found = Looks()
    for done, episode in enumerate(episodes):
        progress(done, len(episodes), "pictures")
        seen: dict[str, list[np.ndarray]] = {}
        for camera in cameras:
            try:
                whole = list(_pictures(dataset, camera, episode))
            except DataError as fault:
                found.unreadable.append((camera, episode, fault))
                continue
            seen[camera] = [shrink(picture) for picture in whole]
            squares = np.stack([camera_view.shrink(resize_with_pad(picture, SMALL)) for picture in whole])
            found.looks.append(_measure(camera, episode, seen[camera], squares))
        found.twins += _compare(episode, seen)
    progress(len(episodes), len(episodes), "pictures")
    return found


def moments(dataset: Dataset, episode: int, count: int = MOMENTS) -> list[int]:
    """Return global numbers of some frames of an episode, from the first to the last."""
    here = dataset.episodes[episode]
    places = np.unique(np.linspace(0, here.length - 1, min(count, here.length)).round().astype(int))
    return [here.start + int(place) for place in places]


def shrink(picture: UInt8[np.ndarray, "height width 3"], side: int = SMALL) -> Int16[np.ndarray, "side side 3"]:
    """Return a picture as a small square, averaged, in whole grey values."""
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small).astype(np.int16)


def _pictures(dataset: Dataset, camera: str, episode: int) -> Iterator[np.ndarray]:
    for frame in moments(dataset, episode):
        yield dataset.image(camera, frame)


def _measure(camera: str, episode: int, pictures: Sequence[np.ndarray], squares: np.ndarray) -> Look:
    grey = [picture.mean(axis=2) for picture in pictures]
    spread = [float(each.std()) for each in grey]
    differences = [
        float(np.abs(second - first).mean()) for i, first in enumerate(pictures) for second in pictures[i + 1 :]
    ]
    moved = [
        float((np.abs(second - first).mean(axis=2) > CHANGED).mean()) for first, second in itertools.pairwise(pictures)
    ]
    mean = np.mean(grey, axis=0)
    part = SMALL // TINY
    return Look(
        camera=camera,
        episode=episode,
        contrast=max(spread),
        flat=sum(each < FLAT for each in spread),
        brightness=float(mean.mean()),
        colour=np.mean([picture.mean(axis=(0, 1)) for picture in pictures], axis=0).astype(np.float32),
        change=max(differences, default=float("nan")),
        moved=float(np.median(moved)) if moved else float("nan"),
        tiny=mean.reshape(TINY, part, TINY, part).mean(axis=(1, 3)).astype(np.float32),
        squares=squares,
    )


FLAT = 5.0
"""Standard deviation inside a picture below which it shows nothing: sound sets have 34 to 79, black ones 0."""


def _compare(episode: int, seen: dict[str, list[np.ndarray]]) -> Iterator[Twins]:
    cameras = list(seen)
    for i, first in enumerate(cameras):
        for second in cameras[i + 1 :]:
            pairs = zip(seen[first], seen[second], strict=True)
            difference = max(float(np.abs(a - b).mean()) for a, b in pairs)
            yield Twins(cameras=(first, second), episode=episode, difference=difference)


def listed(values: Iterable[object], most: int = 8) -> str:
    """Return the first of some values in words, and how many there are where these are not all."""
    shown = [str(value) for value in values]
    return ", ".join(shown[:most]) + (f", … ({len(shown)} in all)" if len(shown) > most else "")
