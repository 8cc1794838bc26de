"""Do the pictures belong to the rows beside them? They change when the robot moves, and late pictures change late.

Of a few episodes of each camera consecutive frames are decoded. How much each picture differs from the one before is
compared with how fast the state moves, at every shift of the two: once as they are, and once their quick changes alone,
whose peak is sharp where the motion is slow. Sound recordings go together best at a shift of nothing or of
one frame; only a clear peak elsewhere is told. A camera that shows little of the robot tells nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pi05.check.pictures.looks import shrink
from pi05.check.subject import Subject
from pi05.data.lerobot.files import dropping
from pi05.errors import DataError
from pi05.finding import Finding, note, warning

FASTEST_HZ = 20.0
"""Of faster recordings only every second or third frame is compared: between two of theirs hardly anything moves."""
EPISODES, FRAMES, ALL_FRAMES = 24, 100, 900
"""Episodes of a camera, spread evenly, compared frames of each of them, and of all together, at the most."""
SHIFTS = 12
"""Compared frames by which the two are shifted against each other, in both directions."""
FEWEST_IN_EPISODE, FEWEST, SURE = 6, 50, 150
"""Pairs of an episode, and of all episodes, from which on a shift is measured; and of all, from which on it is told:
motion is slow, so that neighbouring pairs tell the same."""
CLEAR, CLEARER = 0.4, 0.2
"""Correlation at the best shift, and how much more that is than near none. Sound cameras have their peak, 0.25 to 0.94,
within two frames of none; pictures that are eight frames late 0.6 there, and 0.03 near none."""
QUICK = 5
"""Compared frames whose mean is taken away to leave the quick changes."""
QUICK_CLEAR, QUICK_CLEARER, QUICK_CERTAIN, BESIDE = 0.15, 1.6, 5.0, 2
"""The correlation of quick changes at the best shift: at the least; over what it is at any shift further than `BESIDE`
from that; and in standard errors. Sound cameras have 0.06 to 0.85 at none, and those under 0.1 tell nothing."""
NEAR, LATE = 1, 3
"""Frames of shift that count as none, and from which on they are told."""

Progress = Callable[[int, int, str], None]
Pair = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]
"""How much each picture of an episode differs from the one before, and how fast the state moves meanwhile."""


@dataclass(frozen=True)
class Timing:
    """How the motion in a camera's pictures goes with that of the state."""

    shift: int
    """Frames by which the pictures come later than the state, at the best correlation."""
    best: float
    near: float
    """The correlation there, and the best one near no shift."""
    is_clear: bool
    """Whether the best shift is more than chance."""
    quick: bool = False
    """Whether these are the correlations of the quick changes alone."""

    @property
    def tells_late(self) -> bool:
        """Whether the pictures clearly come at another time than the state."""
        return self.is_clear and abs(self.shift) >= LATE


def check_timing(subject: Subject, cameras: Sequence[str], progress: Progress) -> Iterator[Finding]:
    """Yield cameras whose pictures come later or earlier than the rows that they stand in."""
    speeds = speeds_of(subject)
    together: dict[str, float] = {}
    for number, camera in enumerate(cameras):
        progress(number, len(cameras), "motion in pictures")
        timing = measure_timing(pairs_of(subject, camera, speeds))
        if timing is None:
            continue
        frames = stride_of(subject) * timing.shift
        if timing.tells_late:
            yield _apart(camera, frames, subject.dataset.fps, timing)
        elif timing.near > CLEAR or (timing.quick and timing.is_clear):
            together[camera] = round(timing.near, 2)
    progress(len(cameras), len(cameras), "motion in pictures")
    if together:
        told = ", ".join(f"{camera} {value:.2f}" for camera, value in together.items())
        yield note(
            "pictures.in_time",
            f"pictures change when the state moves, and neither later nor earlier (correlation): {told}",
            numbers=together,
        )


def _apart(camera: str, frames: int, fps: float, timing: Timing) -> Finding:
    how = "later" if frames > 0 else "earlier"
    motion = "quick changes in their motion" if timing.quick else "their motion"
    return warning(
        "pictures.late",
        f"the pictures of {camera} come about {abs(frames)} frames ({abs(frames) / fps:.2f} s) {how} than the state "
        f"beside them: shifted by that, {motion} and the state's correlate by {timing.best:.2f}, as they "
        f"stand by {timing.near:.2f}",
        "shows the network another moment than that of the state and the actions",
        "compare picture and state at a movement that both show; shift the rows or cut the videos; or leave the camera "
        f"out: {dropping(camera)}",
        {"camera": camera, "frames": frames, "correlation": timing.best, "as_it_is": timing.near},
    )


def measure_timing(pairs: Sequence[Pair]) -> Timing | None:
    """Return at which shift pictures and state go together best; None where nothing moves, or too little was seen.

    By their quick changes only where these are clear, and the two as they are do not tell that they are apart.
    """
    curve = _curve(pairs)
    near = _near(curve)
    if near is None:
        return None
    best = max(curve, key=lambda shift: curve[shift])
    is_clear = curve[best] > CLEAR and curve[best] - near > CLEARER and _count(pairs) >= SURE
    slow = Timing(shift=best, best=curve[best], near=near, is_clear=is_clear)
    quick = None if slow.tells_late else _by_quick_changes(pairs)
    return quick if quick is not None and quick.is_clear else slow


def _by_quick_changes(pairs: Sequence[Pair]) -> Timing | None:
    quick = [(_quick(change), _quick(speed)) for change, speed in pairs if len(change) > QUICK]
    curve = _curve(quick)
    near = _near(curve)
    if near is None:
        return None
    best = max(curve, key=lambda shift: curve[shift])
    elsewhere = max((value for shift, value in curve.items() if abs(shift - best) > BESIDE), default=0.0)
    certain = QUICK_CERTAIN / math.sqrt(_count(quick))
    is_clear = curve[best] > max(QUICK_CLEAR, certain, QUICK_CLEARER * elsewhere) and _count(quick) >= SURE
    return Timing(shift=best, best=curve[best], near=near, is_clear=is_clear, quick=True)


def _quick(values: Float[np.ndarray, " _"]) -> Float[np.ndarray, " _"]:
    """Take away the mean of the values around each."""
    around = np.pad(values, QUICK // 2, mode="edge")
    return np.asarray(values - np.convolve(around, np.full(QUICK, 1 / QUICK), "valid"))


def _curve(pairs: Sequence[Pair]) -> dict[int, float]:
    found = {shift: _correlation(pairs, shift) for shift in range(-SHIFTS, SHIFTS + 1)}
    return {shift: value for shift, value in found.items() if value is not None}


def _count(pairs: Sequence[Pair]) -> int:
    return sum(len(change) for change, _ in pairs)


def _near(curve: dict[int, float]) -> float | None:
    return max((value for shift, value in curve.items() if abs(shift) <= NEAR), default=None)


def _correlation(pairs: Sequence[Pair], shift: int) -> float | None:
    """Return it over all episodes, each about its own mean; None of too few."""
    changes, speeds = list[np.ndarray](), list[np.ndarray]()
    for change, speed in pairs:
        left = len(change) - abs(shift)
        if left >= FEWEST_IN_EPISODE:
            late, early = slice(abs(shift), None), slice(None, left)
            own, others = (change[late], speed[early]) if shift >= 0 else (change[early], speed[late])
            changes.append(own - own.mean())
            speeds.append(others - others.mean())
    if sum(map(len, changes)) < FEWEST:
        return None
    first, second = np.concatenate(changes), np.concatenate(speeds)
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 1e-9 else None


def speeds_of(subject: Subject) -> Float[np.ndarray, " frames"]:
    """Return how fast the state moves at each frame of the set, from 0 to 1: every dimension by its own fast steps."""
    states = subject.dataset.states()
    steps = np.abs(np.diff(states, axis=0, prepend=states[:1]))
    for episode in subject.dataset.episodes:
        steps[episode.start] = 0
    fast = np.quantile(steps, 0.99, axis=0)
    moving = fast > 0
    if not moving.any():
        return np.zeros(len(states))
    return np.asarray(np.minimum(steps[:, moving] / fast[moving], 1).mean(axis=1), np.float64)


def stride_of(subject: Subject) -> int:
    """Return every which frame is compared."""
    return max(1, round(subject.dataset.fps / FASTEST_HZ))


def pairs_of(subject: Subject, camera: str, speeds: np.ndarray) -> list[Pair]:
    """Decode frames of some episodes; an episode that cannot be decoded is another finding's."""
    dataset, stride = subject.dataset, stride_of(subject)
    count = min(len(subject.episodes), EPISODES)
    places = np.unique(np.linspace(0, len(subject.episodes) - 1, count).round().astype(int))
    pairs: list[Pair] = []
    seen = 0
    for episode in (subject.episodes[place] for place in places):
        if seen >= ALL_FRAMES:
            break
        try:
            frames = itertools.islice(dataset.iter_frames(camera, episode), 0, FRAMES * stride, stride)
            pictures = [shrink(picture) for picture in frames]
        except DataError:
            continue
        seen += len(pictures)
        change = [float(np.abs(second - first).mean()) for first, second in itertools.pairwise(pictures)]
        start = dataset.episodes[episode].start
        own = speeds[start + 1 : start + (len(pictures) - 1) * stride + 1]
        if change:
            pairs.append((np.array(change), own.reshape(-1, stride).mean(axis=1)))
    if not pairs:
        return []
    most = float(np.quantile(np.concatenate([change for change, _ in pairs]), 0.95))
    return [(np.minimum(change, most), speed) for change, speed in pairs]
