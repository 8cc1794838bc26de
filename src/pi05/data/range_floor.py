"""How wide the range of a dimension must be at least, so that normalising does not blow up what hardly moves.

A dimension whose q99 - q01 is tiny would have huge normalised values (q99 = q01 divides by 1e-6). Its range is widened
about its centre to the larger of 1e-4 (below any sensor) and a tenth of the spread of what really happens in it. Then
what really happens stays within about ±20.

What really happens is told from a glitch by how long it lasts and how often it comes:

- An event that lasts three frames or more counts, as the signal after a running median over five frames tells, episode
  by episode. Where the dimension otherwise stands still (q99 - q01 below 1e-4: a wrist that is turned in one episode of
  a hundred), the spread is all that the steady signal covers; little is lost by a wide range there. Where it moves,
  the spread is that between the 0.1 % and 99.9 % quantiles of the steady signal: a sensor that hangs for some frames
  squeezes nothing.
- A shorter event counts where at least half of the episodes, and at least three, have one as large: a command that is
  a pulse of one frame in every episode, or an arm that settles in the first two frames of each. Others are glitches.

So glitches of any size and any number do not squeeze a good dimension; they are named (`statistics.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    lasting: Callable[[int], Spread],
    episode_spreads: Callable[[int], Float[np.ndarray, " E"]],
) -> Float[np.ndarray, " n"]:
    """Return the least range of each dimension.

    `width` is q99 - q01 and `spread` that of all values between 0.1 % and 99.9 %. Where these do not decide,
    `lasting(i)` is asked for the spread of the steady signal and `episode_spreads(i)` for that of all values in each
    episode.
    """
    least = np.maximum(ABSOLUTE_FLOOR, SPREAD_FLOOR * spread)
    for i in np.flatnonzero(width < least).tolist():
        steady_spread = lasting(i)
        happens = steady_spread.whole if width[i] < ABSOLUTE_FLOOR else steady_spread.usual
        happens = max(happens, frequent_spread(episode_spreads(i)))
        least[i] = max(ABSOLUTE_FLOOR, SPREAD_FLOOR * happens)
    return least


@dataclass(frozen=True)
class Spread:
    """How far values are spread."""

    usual: float
    """Between the 0.1 % and 99.9 % quantiles."""
    whole: float
    """Between the least and the largest."""


def frequent_spread(of_episodes: Float[np.ndarray, " E"]) -> float:
    """Return the spread that half of the episodes reach, and three or more; 0 where there are fewer than three."""
    enough = max(ENOUGH_EPISODES, -(-len(of_episodes) // 2))
    return float(np.sort(of_episodes)[-enough]) if len(of_episodes) >= enough else 0.0
