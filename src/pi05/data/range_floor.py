"""How wide the range of a dimension must be at least, so that normalising does not blow up what hardly moves.

A dimension whose q99 - q01 is tiny would have huge normalised values (q99 = q01 divides by 1e-6). Its range is widened
about its centre to the larger of 1e-4 (below any sensor) and a tenth of the spread of what really happens in it. Then
an event in at least 0.1 % of the frames stays within about ±20.

What really happens is told from a glitch by how long it lasts and how often it comes:

- An event that lasts three frames or more (a gripper that closes in 0.5 % of the frames) counts: the spread is taken
  between the 0.1 % and 99.9 % quantiles of the signal after a running median over five frames, episode by episode.
- A shorter one is a glitch, unless at least half of the episodes, and at least three, have one: a command that is a
  pulse of one frame in every episode counts, and so does an arm that settles in the first two frames of each.

So glitches of any size and any number do not squeeze a good dimension; they are named (`statistics.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

ABSOLUTE_FLOOR = 1e-4
"""Smallest quantile range, in the dimension's own unit."""
SPREAD_FLOOR = 0.1
"""Smallest quantile range as a share of the spread."""
WINDOW = 5
"""Frames of the running median: what lasts fewer than half of them is gone."""
ENOUGH_EPISODES = 3
"""Episodes with an event of one or two frames from which on it may be none of chance."""


def steady(values: Float32[np.ndarray, "T n"]) -> Float32[np.ndarray, "T n"]:
    """Return the running median of one episode, over the `WINDOW` frames around each, at its ends the outermost ones.

    A shorter episode is looked at through three frames, one of two frames not at all.
    """
    size = WINDOW if len(values) >= WINDOW else 3
    if len(values) < size:
        return values
    windows = np.lib.stride_tricks.sliding_window_view(values, size, axis=0)
    medians = np.median(windows, axis=-1).astype(values.dtype)
    return np.pad(medians, ((size // 2, size // 2), (0, 0)), mode="edge")


def least_range(
    width: Float[np.ndarray, " n"],
    spread: Float[np.ndarray, " n"],
    lasting_spread: Callable[[int], float],
    is_frequent: Callable[[int, float], bool],
) -> Float[np.ndarray, " n"]:
    """Return the least range of each dimension.

    `width` is q99 - q01 and `spread` that of all values between 0.1 % and 99.9 %; `lasting_spread(i)` is that of the
    steady signal, asked for only where it decides; `is_frequent(i, range)` tells whether values that would lie further
    out than 1 / SPREAD_FLOOR such ranges come in enough episodes to be no glitch.
    """
    least = np.maximum(ABSOLUTE_FLOOR, SPREAD_FLOOR * spread)
    for i in np.flatnonzero(width < least).tolist():
        lasting = max(ABSOLUTE_FLOOR, SPREAD_FLOOR * lasting_spread(i))
        if lasting < least[i] and not is_frequent(i, max(lasting, float(width[i]))):
            least[i] = lasting
    return least


def in_enough_episodes(count: int, episodes: int) -> bool:
    """Return whether short events in `count` episodes are no glitches: in half of them, and in three or more."""
    return count >= max(ENOUGH_EPISODES, episodes / 2)
