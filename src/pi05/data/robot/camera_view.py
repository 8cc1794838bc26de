"""What a camera showed in training, in a few hundred bytes: is a picture turned, mirrored, or red for blue against it?

Of a camera's training frames the mean picture and its spread are kept, 8 × 8 in colour, as the network sees them.
A picture that fits the mean clearly better when it is turned or mirrored is told, and so is one whose colours fit only
when red and blue change places. Each is told only where the training frames themselves never look so: a camera that
looks straight down on an empty table cannot be told from one that is turned, and then nothing is said.

What it cannot see: pictures that were turned, or had their colours exchanged, in the training data already, and are
the same on the robot. Nothing is wrong with such a policy but its start: the base knows other pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from pi05.errors import DataError

SIDE = 8
"""Pixels of the mean picture."""
FEWEST_FRAMES, FEWEST_EPISODES = 20, 3
"""Under so many the mean is that of a moment, and nothing is kept."""
NOISE = 8.0
"""Grey values that are added to the spread of a pixel: a little of it is compression and light."""
CLEARLY = 2.5
"""A turned picture fits so many times better than the picture as it is; in training none fits better at all."""
ALIKE = 0.6
"""Correlation with the mean picture that a turned one reaches at the least."""
COLOURED = 0.5
"""Cosine between the colours of a picture and those of the mean: above it in all of training, below its negative where
red and blue are exchanged."""
EXCHANGED = "with red and blue exchanged"
SHOWS = "shows what was seen in training by camera "
"""Before a camera's name: of a picture that comes under the name of another one (`camera_views.py`)."""

Turn = Callable[[np.ndarray], np.ndarray]
UNDONE_BY: dict[str, Turn] = {
    "upside down": lambda picture: picture[::-1, ::-1],
    "mirrored top to bottom": lambda picture: picture[::-1],
    "mirrored left to right": lambda picture: picture[:, ::-1],
    "turned to the left": lambda picture: np.rot90(picture, -1),
    "turned to the right": lambda picture: np.rot90(picture),
    "mirrored along its diagonal": lambda picture: np.swapaxes(picture, 0, 1),
    "mirrored along its other diagonal": lambda picture: np.swapaxes(picture[::-1, ::-1], 0, 1),
}
"""How a picture may stand, and what sets it upright again; of pictures with and without colours."""


@dataclass(frozen=True, eq=False)
class CameraView:
    """What one camera showed in training."""

    mean: UInt8[np.ndarray, "8 8 3"]
    spread: UInt8[np.ndarray, "8 8 3"]
    """Standard deviation over the training frames."""
    turns: tuple[str, ...]
    """The names in `UNDONE_BY` that no training frame looks like."""
    coloured: bool
    """Whether the colours of all training frames tell red from blue."""
    apart: tuple[str, ...] = ()
    """The slots whose cameras are told if they change places with this one (`camera_views.py`)."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: pictures as hexadecimal text."""
        pictures = {"mean": self.mean.tobytes().hex(), "spread": self.spread.tobytes().hex()}
        apart = {"apart": list(self.apart)} if self.apart else {}
        return {**pictures, "turns": list(self.turns), "coloured": self.coloured, **apart}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CameraView:
        """Build from `to_dict`. Raises DataError for text that is none of its pictures."""
        try:
            mean, spread = (
                np.frombuffer(bytes.fromhex(values[name]), np.uint8).reshape(SIDE, SIDE, 3)
                for name in ("mean", "spread")
            )
            turns = tuple(name for name in UNDONE_BY if name in values["turns"])
            apart = tuple(map(str, values.get("apart", ())))
            return cls(mean=mean, spread=spread, turns=turns, coloured=values["coloured"] is True, apart=apart)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "what the checkpoint says of its cameras' pictures cannot be read",
                wanted=f"mean and spread as {SIDE * SIDE * 3} bytes in hexadecimal numbers, turns, and coloured",
                found=str(error),
                remedy="restore the file: copy or download it again",
            ) from error

    def differences(self, picture: np.ndarray) -> tuple[str, ...]:
        """Return in which ways a square picture, as the network gets it, stands otherwise than in training."""
        small = shrink(picture).astype(np.float64)
        turn = self._turn(small.mean(axis=2))
        upright = small if turn is None else UNDONE_BY[turn](small)
        exchanged = self.coloured and self.cosine(upright) < -COLOURED
        return ((turn,) if turn is not None else ()) + ((EXCHANGED,) if exchanged else ())

    def _turn(self, grey: Float[np.ndarray, "8 8"]) -> str | None:
        misfits = self._misfits(grey)
        name = min(misfits, key=lambda each: misfits[each]) if misfits else ""
        if name and misfits[name] < 1 - ALIKE and CLEARLY * misfits[name] < self.misfit(grey):
            return name
        return None

    def _misfits(self, grey: Float[np.ndarray, "8 8"]) -> dict[str, float]:
        return {name: self.misfit(UNDONE_BY[name](grey)) for name in self.turns}

    def misfit(self, grey: Float[np.ndarray, "8 8"]) -> float:
        """Return one minus the correlation with the mean picture, pixels counted the less the more they vary."""
        weight = 1 / (np.square(self.spread.mean(axis=2, dtype=np.float64)) + NOISE**2)
        weight /= weight.sum()
        own, mean = (each - (weight * each).sum() for each in (grey, self.mean.mean(axis=2, dtype=np.float64)))
        size = np.sqrt((weight * own**2).sum() * (weight * mean**2).sum())
        return 1 - float((weight * own * mean).sum() / size) if size > 1e-9 else 1.0

    def cosine(self, small: Float[np.ndarray, "8 8 3"]) -> float:
        """Return how alike red minus blue is to that of the mean picture, from -1 to 1; 0 where one has no colour."""
        weight = 1 / (np.square(self.spread.mean(axis=2, dtype=np.float64)) + NOISE**2)
        own, mean = (each[..., 0] - each[..., 2] for each in (small, self.mean.astype(np.float64)))
        size = np.sqrt((weight * own**2).sum() * (weight * mean**2).sum())
        return float((weight * own * mean).sum() / size) if size > (weight.sum() * 1.0) else 0.0


def shrink(picture: np.ndarray) -> UInt8[np.ndarray, "8 8 3"]:
    """Return a square picture, in bytes or in [-1, 1], as 8 × 8 pixels, averaged."""
    if picture.dtype != np.uint8:
        picture = np.rint((np.clip(picture, -1, 1) + 1) * 127.5).astype(np.uint8)
    small = Image.fromarray(np.ascontiguousarray(picture)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small)


def view_of(episodes: Sequence[Iterable[np.ndarray]]) -> CameraView | None:
    """Return what a camera shows in these square pictures of several episodes; None of too few.

    Each episode is judged by the mean of the others: what one of them is taken for cannot be told of the next.
    """
    small = [np.array([shrink(picture) for picture in pictures], np.float64) for pictures in episodes]
    small = [pictures for pictures in small if len(pictures)]
    if len(small) < FEWEST_EPISODES or sum(map(len, small)) < FEWEST_FRAMES:
        return None
    told, coloured = set(UNDONE_BY), True
    for number, pictures in enumerate(small):
        others = averaged(small[:number] + small[number + 1 :])
        for picture in pictures:
            grey = picture.mean(axis=2)
            usual = others.misfit(grey)
            told = {name for name in told if others.misfit(UNDONE_BY[name](grey)) > usual}
            coloured = coloured and others.cosine(picture) > COLOURED
    return replace(averaged(small), turns=tuple(name for name in UNDONE_BY if name in told), coloured=coloured)


def averaged(episodes: Sequence[Shaped[np.ndarray, "_ 8 8 3"]]) -> CameraView:
    """Return the mean of all pictures of some episodes and its spread, which tells nothing yet."""
    stack = np.concatenate(episodes)
    mean, spread = (np.rint(each).astype(np.uint8) for each in (stack.mean(axis=0), stack.std(axis=0)))
    return CameraView(mean=mean, spread=spread, turns=(), coloured=False)
