"""States and actions of the used episodes as one signal per dimension, and what is asked of a signal again and again.

One dimension at a time is copied out of the arrays that the data set keeps, so that a million frames need little more
than those. Nothing looks over the edge of an episode.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from pi05.check.subject import Subject

Kind = Literal["state", "action"]
SETTLING = 5
"""Frames at an episode's start in which robots settle; what is stale there is measured by itself."""
FEW_VALUES = 8
"""A signal with no more distinct values is one of switches, not of movements."""


@dataclass(frozen=True, eq=False)
class Signal:
    """One dimension over all used frames."""

    kind: Kind
    number: int
    name: str
    values: Float32[np.ndarray, " N"]
    calm: Float32[np.ndarray, " N"]
    """The same without what lasts fewer than three frames: a running median over five."""

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return f"{self.kind} {self.name}"

    @functools.cached_property
    def reach(self) -> float:
        """What the signal spans, glitches left out."""
        return float(self.calm.max()) - float(self.calm.min())

    @functools.cached_property
    def is_constant(self) -> bool:
        """Whether every value is the same."""
        return bool(self.values.min() == self.values.max())

    @functools.cached_property
    def is_switch(self) -> bool:
        """Whether it takes a few values only, as a gripper command or a button does."""
        some = self.calm[:: max(1, len(self.calm) // 50_000)]
        return len(np.unique(some)) <= FEW_VALUES


class Signals:
    """All dimensions of the used episodes, one after the other."""

    def __init__(self, subject: Subject) -> None:
        dataset = subject.dataset
        used = [dataset.episodes[number] for number in subject.episodes]
        self.episodes: list[int] = list(subject.episodes)
        self.fps = dataset.fps
        self.lengths = np.array([episode.length for episode in used], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)
        """Where each episode begins in a signal."""
        self.names: dict[Kind, list[str]] = {"state": dataset.state_names, "action": dataset.action_names}
        self._arrays: dict[Kind, np.ndarray] = {"state": dataset.states(), "action": dataset.actions()}
        whole = len(used) == dataset.num_episodes
        self._frames = None if whole else np.concatenate([np.arange(e.start, e.start + e.length) for e in used])

    def __len__(self) -> int:
        return int(self.lengths.sum())

    def count(self, kind: Kind) -> int:
        """Return the number of dimensions."""
        return int(self._arrays[kind].shape[1])

    def signal(self, kind: Kind, number: int) -> Signal:
        """Return one dimension."""
        column = self._arrays[kind][:, number]
        values = np.ascontiguousarray(column if self._frames is None else column[self._frames])
        return Signal(kind, number, self.names[kind][number], values, self.calm(values))

    def each(self, *kinds: Kind) -> Iterator[Signal]:
        """Yield the dimensions of the state, of the action, or of both, one by one."""
        for kind in kinds or ("state", "action"):
            for number in range(self.count(kind)):
                yield self.signal(kind, number)

    @functools.cached_property
    def inside(self) -> Bool[np.ndarray, " steps"]:
        """Which steps from one frame to the next stay in one episode."""
        mask = np.ones(len(self) - 1, bool)
        mask[self.starts[1:] - 1] = False
        return mask

    @functools.cached_property
    def settled(self) -> Bool[np.ndarray, " N"]:
        """Which frames are not among the first `SETTLING` of their episode."""
        return np.arange(len(self)) - np.repeat(self.starts, self.lengths) >= SETTLING

    @functools.cached_property
    def _centres(self) -> Int64[np.ndarray, " N"]:
        """The middle of the window of five frames around each, moved into its episode; itself in a shorter one."""
        first, length = np.repeat(self.starts, self.lengths), np.repeat(self.lengths, self.lengths)
        own = np.arange(len(self))
        return np.where(length < 5, own, np.clip(own, first + 2, first + length - 3))

    def calm(self, values: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
        """Return the running median over five frames, as `data.range_floor.steady` takes it; short episodes as is."""
        if len(values) < 5:
            return values
        a, b, c, d, e = (values[i : len(values) - 4 + i] for i in range(5))
        low = np.maximum(np.minimum(a, b), np.minimum(d, e))
        high = np.minimum(np.maximum(a, b), np.maximum(d, e))
        middle = np.concatenate([values[:2], median_of_three(c, low, high), values[-2:]])
        found: np.ndarray = middle[self._centres]
        return np.where(np.repeat(self.lengths, self.lengths) < 5, values, found)

    def steps(self, values: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, " steps"]:
        """Return each step to the next frame; 0 from one episode to the next."""
        found: np.ndarray = np.diff(values)
        found[~self.inside] = 0
        return found

    def lowest(self, values: np.ndarray) -> np.ndarray:
        """Return the lowest value of each episode."""
        return np.minimum.reduceat(values, self.starts)

    def highest(self, values: np.ndarray) -> np.ndarray:
        """Return the highest value of each episode."""
        return np.maximum.reduceat(values, self.starts)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of each episode."""
        return np.add.reduceat(values, self.starts, dtype=np.float64) / self.lengths

    def place(self, frame: int) -> tuple[int, int]:
        """Return the episode, and the number within it, of a place in a signal."""
        number = int(np.searchsorted(self.starts, frame, side="right")) - 1
        return self.episodes[number], frame - int(self.starts[number])

    def episodes_of(self, frames: np.ndarray) -> list[int]:
        """Return the episodes of some places in a signal, each once."""
        numbers = np.unique(np.searchsorted(self.starts, frames, side="right") - 1)
        return [self.episodes[number] for number in numbers.tolist()]

    @functools.cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """State and action dimensions that are the same joint: those of one name, without any those of one index."""
        plain = {kind: [name.lower() for name in names] for kind, names in self.names.items()}
        shared = [name for name in plain["action"] if name in plain["state"]]
        if shared:
            return [(plain["state"].index(name), plain["action"].index(name)) for name in shared]
        return [(number, number) for number in range(min(self.count("state"), self.count("action")))]


def median_of_three(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the middle one of three arrays, element by element."""
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation of two signals; 0 where one of them does not move."""
    x, y = x - x.mean(dtype=np.float64), y - y.mean(dtype=np.float64)
    scale = float(np.sqrt((x**2).sum(dtype=np.float64) * (y**2).sum(dtype=np.float64)))
    return float((x * y).sum(dtype=np.float64)) / scale if scale > 0 else 0.0
