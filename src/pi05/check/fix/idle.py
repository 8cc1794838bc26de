"""How much of an episode's ends is idle: nothing moves, neither in the numbers nor in the pictures.

Only what cannot teach anything is cut: a robot that waits for something that moves in the pictures is not idle, and
half a second of rest stays at either end, so that a policy still sees how a task begins and that it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

SHORTEST_SECONDS = 1.0
"""Rest of less than this is left."""
KEPT_SECONDS = 0.5
"""What stays of a rest that is cut."""
STILL = 1e-3
"""Share of a dimension's range in the whole set below which it counts as unmoved."""
STILL_PICTURES = 1.0
"""Mean difference of the values (0 to 255) of two pictures at 48 × 48 below which nothing moves in them."""
LOOKS = 5
"""Pictures compared per camera and end."""


def idle_frames(
    state: Float[np.ndarray, "frames S"],
    action: Float[np.ndarray, "frames n"],
    range_: Float[np.ndarray, " dims"],
    fps: float,
) -> tuple[int, int]:
    """Return how many frames could be cut at the start and at the end, by the numbers alone.

    `range_` is largest minus smallest value of each dimension of state and action over the whole set.
    """
    both = np.concatenate([state, action], axis=1)
    ends = [_resting(both, range_), _resting(both[::-1], range_)]
    if sum(ends) >= len(both):  # it never moves: another finding, and not for this to mend
        return 0, 0
    cut = [rest - round(KEPT_SECONDS * fps) if rest >= SHORTEST_SECONDS * fps else 0 for rest in ends]
    return max(cut[0], 0), max(cut[1], 0)


def _resting(values: Float[np.ndarray, "frames dims"], range_: Float[np.ndarray, " dims"]) -> int:
    """Return how many frames at the start are like the first one."""
    moved = (np.abs(values - values[0]) > STILL * range_).any(1)
    return int(moved.argmax()) if moved.any() else len(values)


def pictures_rest(picture: Callable[[int], UInt8[np.ndarray, "height width 3"]], first: int, last: int) -> bool:
    """Say whether nothing moves in one camera's pictures from frame `first` to frame `last`."""
    looks = np.unique(np.linspace(first, last, LOOKS).round().astype(int)).tolist()
    small = [_small(picture(frame)) for frame in looks]
    return all(_still(small[0], other) for other in small[1:])


def _small(image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BOX), np.float32)


def _still(one: np.ndarray, other: np.ndarray) -> bool:
    return float(np.abs(one - other).mean()) < STILL_PICTURES


def range_of(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return largest minus smallest value of each dimension, over arrays [frames, dims]."""
    lowest = highest = None
    for part in parts:
        low, high = part.min(0), part.max(0)
        lowest = low if lowest is None else np.minimum(lowest, low)
        highest = high if highest is None else np.maximum(highest, high)
    if lowest is None or highest is None:
        raise ValueError("no frames")
    return highest - lowest
