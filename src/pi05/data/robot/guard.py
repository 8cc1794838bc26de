"""What an observation must not be, so that no robot moves on a wrong one: pictures of another kind, strange states.

`Policy` calls these checks for every observation, and so does everything that serves it. Whether shapes fit is the
business of `data/requirements.py`; what a camera showed in training, that of `camera_view.py`. What no check can see:
two cameras exchanged that saw the same in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pi05.data.robot.camera_view import SHOWS, CameraView, shrink
from pi05.data.robot.camera_views import exchanged
from pi05.data.robot.reach import reach_of
from pi05.data.robot.recent_looks import RecentLooks
from pi05.data.statistics import DimStats
from pi05.errors import DataError

LARGEST_SIDE = 8192
"""Pixels; above this nothing is a camera's picture."""


SAME_PROPORTIONS = 0.02
"""By how much height over width may differ from the training data."""


def require_image(
    observation: Mapping[str, Any], key: str, trained: tuple[int, int] | None = None, side: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the picture of one camera. Raises DataError when it is missing or not uint8 RGB, channels last.

    A picture of another kind is named: numbers in [0, 1] or [-1, 1], channels first, a batch.
    `trained` is the size in the training data: others have its proportions (another crop would show another scene), or
    are the square of `side` pixels that the network sees, which openpi's clients make themselves.
    """
    if key not in observation:
        raise DataError(
            f"camera {key} is missing from the observation",
            wanted=f"{key} as uint8[height, width, 3]",
            found=", ".join(map(str, observation)),
            remedy="send every camera that the policy was trained with, under its name",
        )
    try:
        image = np.asarray(observation[key])
    except ValueError as error:  # lists of different lengths
        raise _no_picture(key, str(error), "send one array of numbers") from error
    found = f"{image.dtype}{list(image.shape)}"
    if image.ndim == 3 and image.shape[-1] != 3 and image.shape[0] == 3:
        raise _no_picture(key, f"{found}: the colour channels come first", "transpose it to height, width, colours")
    if image.ndim == 4:
        raise _no_picture(key, f"{found}: a batch, or several frames", "send one picture for each camera")
    if image.dtype != np.uint8:
        raise _no_picture(key, f"{found}{_values(image)}", "send whole numbers from 0 to 255: " + _as_bytes(image))
    if image.ndim != 3 or image.shape[-1] != 3:
        raise _no_picture(key, found, "convert it: colour channels last, RGB order, whole numbers from 0 to 255")
    if not all(1 <= side <= LARGEST_SIDE for side in image.shape[:2]):
        raise _no_picture(key, found, f"send a picture of 1 to {LARGEST_SIDE} pixels a side")
    _require_proportions(key, image.shape[0], image.shape[1], trained, side)
    return image


def require_bytes_used(image: UInt8[np.ndarray, "height width 3"], key: str) -> None:
    """Raise DataError for numbers in [0, 1] that were cast to bytes. For what a robot sends only.

    A black picture passes: it is a covered camera, or an experiment. In recordings a black frame may hold ones, too,
    which are the video's compression.
    """
    if image[0, 0, 0] <= 1 and image.max() == 1:
        found = f"{image.dtype}{list(image.shape)} with no value above 1"
        raise _no_picture(key, found, "scale from [0, 1] to 0 to 255 before casting to bytes")


def _require_proportions(key: str, height: int, width: int, trained: tuple[int, int] | None, side: int | None) -> None:
    if trained is None or height == width == side:
        return
    if abs(height * trained[1] / (width * trained[0]) - 1) > SAME_PROPORTIONS:
        raise DataError(
            f"the pictures of camera {key} have other proportions than in training",
            wanted=f"{trained[0]} × {trained[1]} (height × width), the same shape smaller or larger, or the network's "
            f"own {side} × {side}",
            found=f"{height} × {width}",
            remedy="set the camera to the mode that it had when the demonstrations were recorded",
        )


def _no_picture(key: str, found: str, remedy: str) -> DataError:
    return DataError(
        f"camera {key} does not hold a picture as the policy reads it",
        wanted="uint8[height, width, 3], RGB, 0 to 255",
        found=found,
        remedy=remedy,
    )


def _values(image: np.ndarray) -> str:
    if image.dtype.kind not in "fiu" or image.size == 0:
        return ""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        return " with values that are not finite"
    return f" from {image.min():.4g} to {image.max():.4g}"


def _as_bytes(image: np.ndarray) -> str:
    """Return how the picture becomes bytes, as far as its values tell how they are meant."""
    if image.dtype.kind == "f" and image.size and np.isfinite(image).all():
        if image.min() >= 0 and image.max() <= 1:
            return "(picture * 255).round().astype(numpy.uint8)"
        if image.min() >= -1 and image.max() <= 1:
            return "((picture + 1) * 127.5).round().astype(numpy.uint8)"
    return "as the camera's driver gives them"


@dataclass(frozen=True, kw_only=True)
class Outside:
    """One number of a state that lies outside of what the training data held."""

    dimension: int
    name: str
    value: float
    low: float
    high: float
    surely_wrong: bool
    """Whether it is so far outside that it cannot be the same quantity."""

    @property
    def by(self) -> float:
        """How far it is outside, in the state's own unit."""
        return self.low - self.value if self.value < self.low else self.value - self.high

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name else ""
        return (
            f"state dimension {self.dimension}{name} is {self.value:.4g}; "
            f"in training it was {self.low:.4g} to {self.high:.4g}, so it is {self.by:.4g} outside"
        )


def outside_of_training(state: Float[np.ndarray, " S"], stats: DimStats, names: Sequence[str]) -> list[Outside]:
    """Return the numbers of a state that lie beyond the reach of the training data; none where that is unknown.

    Where only quantiles are known, these are the range that the reach goes beyond (`reach.py`).
    """
    reach = reach_of(stats)
    if reach is None:
        return []
    wrong = reach.surely_wrong(state)
    return [
        Outside(
            dimension=i,
            name=names[i] if len(names) == len(state) else "",
            value=float(state[i]),
            low=float(reach.low[i]),
            high=float(reach.high[i]),
            surely_wrong=bool(wrong[i]),
        )
        for i in np.flatnonzero(reach.outside(state)).tolist()
    ]


@dataclass(frozen=True, kw_only=True)
class Unlike:
    """A camera whose pictures stand otherwise than all that it showed in training."""

    camera: str
    how: tuple[str, ...]
    """Upside down, mirrored, with red and blue exchanged, and so on; or `SHOWS` and another camera's name."""

    @property
    def displaced(self) -> bool:
        """Whether it is another camera's picture."""
        return self.how[0].startswith(SHOWS)

    def __str__(self) -> str:
        if self.displaced:
            return f"camera {self.camera} {self.how[0]}"
        return (
            f"the picture of camera {self.camera} comes {' and '.join(self.how)}, compared with those of the training"
        )


def unlike_training(
    images: Sequence[np.ndarray] | np.ndarray,
    slots: Mapping[str, str | None],
    views: Mapping[str, CameraView],
    looks: RecentLooks,
) -> list[Unlike]:
    """Return the cameras whose squares, one for each slot, are turned, of other colours, or another camera's; none
    where unknown.

    This look is noted in `looks`, and so is not told alone, but together with the last ones of the same robot.
    """
    found = []
    pictures = {
        slot: shrink(image)
        for image, slot in zip(images, slots, strict=True)
        if slots[slot] is not None and slot in views
    }
    places = exchanged(pictures, views)
    for slot, small in pictures.items():
        camera = slots[slot]
        if camera is not None:
            how = (f"{SHOWS}{slots[places[slot]]}",) if slot in places else views[slot].differences(small)
            how = looks.usually(camera, how, small)
            if how:
                found.append(Unlike(camera=camera, how=how))
    return found


def require_as_filmed(unlike: Sequence[Unlike]) -> None:
    """Raise DataError for pictures that are turned, mirrored, red for blue, or another camera's."""
    if unlike:
        raise DataError(
            "a camera does not show its pictures as it did in training",
            wanted="each camera's own pictures, in the orientation and the channel order of the demonstrations",
            found="; ".join(map(str, unlike)),
            remedy="give each picture the name of its camera, send RGB, not OpenCV's BGR (picture[..., ::-1]), and "
            "turn the picture, or mount the camera, as it was when the demonstrations were recorded; if the pictures "
            "are right, move the arm a little, so that its cameras see something else, and ask again, or go on without "
            "--strict: the answers' warnings tell the same",
        )


def require_inside(outside: Sequence[Outside]) -> None:
    """Raise DataError for a state that is outside of the training range, naming each of its numbers."""
    if outside:
        raise DataError(
            "the state is outside of what the policy was trained on",
            wanted="values within the training range, or a little beyond it",
            found="; ".join(map(str, outside)),
            remedy="check units, calibration and the order of the joints; move the arm to where demonstrations began",
        )
