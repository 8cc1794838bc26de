"""A sample of states and actions as the network would see them, for checks and charts.

Of long sets frames are taken evenly, and of each chunk a few steps: shares of a dimension need no more. Exact numbers
are the statistics' (`data/statistics.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from pi05.data.lerobot.reader import Dataset

MOST_FRAMES = 40_000
"""Frames that are sampled: a share of 0.1 is then known to 0.005."""
STEPS_OF_CHUNK = 5
"""Steps of each chunk, from the first to the last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Raw values, actions after the action transform, in robot units."""

    states: Float32[np.ndarray, "N s"]
    actions: Float32[np.ndarray, "M n"]


def sample_frames(dataset: Dataset, episodes: Sequence[int], most: int = MOST_FRAMES) -> np.ndarray:
    """Return global frame numbers of these episodes, evenly spaced, at most so many."""
    frames = np.concatenate(
        [np.arange(e.start, e.start + e.length) for e in (dataset.episodes[number] for number in episodes)]
    )
    return frames[np.unique(np.linspace(0, len(frames) - 1, min(len(frames), most)).astype(int))]


def take_sample(
    dataset: Dataset, episodes: Sequence[int], horizon: int, relative: Sequence[bool] | None, most: int = MOST_FRAMES
) -> Sample:
    """Sample the frames of some episodes; `relative` marks actions that are taken from the state at a chunk's start."""
    frames = sample_frames(dataset, episodes, most)
    ends = np.zeros(dataset.num_frames, np.int64)
    for number in episodes:
        episode = dataset.episodes[number]
        ends[episode.start : episode.start + episode.length] = episode.start + episode.length
    states, actions = dataset.states(), dataset.actions()
    marked = np.zeros(dataset.action_dim, bool) if relative is None else np.array(relative, bool)
    paired = np.flatnonzero(marked)
    parts = []
    for step in np.unique(np.linspace(0, horizon - 1, STEPS_OF_CHUNK).round().astype(int)):
        starts = frames[frames + step < ends[frames]]
        chunk = actions[starts + step]
        chunk[:, paired] -= states[starts][:, paired]
        parts.append(chunk)
    return Sample(states=states[frames], actions=np.concatenate(parts))


CLEARLY = 1.25
"""Times the range from which on a value is beyond it for sure: of a few short episodes many lie just outside of their
own quantiles, and of other episodes of the same robot some."""


def share_outside(values: np.ndarray, limit: float = 1.0) -> np.ndarray:
    """Return the share of each column's values beyond ± the limit."""
    share: np.ndarray = (np.abs(values) > limit).mean(axis=0)
    return share


def name_dimensions(names: Sequence[str], dimensions: Sequence[int], most: int = 6) -> str:
    """Return dimensions by number and name, for people."""
    shown = [f"{i} ({names[i]})" if i < len(names) and names[i] != str(i) else str(i) for i in dimensions]
    return ", ".join(shown[:most]) + (f", … ({len(shown)} in all)" if len(shown) > most else "")
