"""Episodes that hold the same recording: number for number, or a piece of it.

A piece, as trimming or cutting leaves it, is found by its runs of rows: a hash of every run of `RUN` rows in which
the state moves is looked for in the other episodes. Of large sets only those runs are taken that begin at rows which
the rows' own numbers choose, so that a run is taken, or left, wherever it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, UInt64

from pi05.data.lerobot.reader import Dataset

RUN = 8
"""Rows; so many do not agree in state and action, to the last bit, unless they are one recording. An episode that is
shorter is one run."""
CHANGES = 2
"""Rows of a run whose state differs from the one before, at the least: slow numbers are repeated in fast recordings."""
SHARE = 0.4
"""Of an episode's runs that others hold, from which on it is a copy: about half of its rows."""
ALL_RUNS = 200_000
"""Rows of a set up to which all runs are looked for; of larger ones about so many."""


@dataclass(frozen=True)
class Copy:
    """An episode whose recording others hold, too."""

    episode: int
    of: int
    """The one that holds most of it."""
    share: float
    """Of its runs that others hold."""

    def __str__(self) -> str:
        return f"{self.episode} of {self.of}" + ("" if self.share == 1 else f" ({self.share:.0%} of it)")


def find_copies(dataset: Dataset, episodes: Sequence[int]) -> list[Copy]:
    """Return the episodes that are copies of others among them, or pieces; the longer one is taken for the original.

    Says nothing of episodes whose state stands still.
    """
    every = _every(dataset, episodes)
    longest_first = sorted(episodes, key=lambda number: (-dataset.episodes[number].length, number))
    holders: dict[int, int] = {}
    found = []
    for number in longest_first:
        runs = _runs_of_episode(dataset, number, every)
        copy = _compare(number, runs, holders)
        if copy is not None:
            found.append(copy)
        for run in runs:
            holders.setdefault(run, number)
    return sorted(found, key=lambda copy: copy.episode)


def find_copies_of(dataset: Dataset, episodes: Sequence[int], others: Sequence[int]) -> list[Copy]:
    """Return those of `episodes` whose recording lies in one or several of `others`."""
    every = _every(dataset, [*episodes, *others])
    holders: dict[int, int] = {}
    for number in others:
        for run in _runs_of_episode(dataset, number, every):
            holders.setdefault(run, number)
    compared = (_compare(number, _runs_of_episode(dataset, number, every), holders) for number in episodes)
    return [copy for copy in compared if copy is not None]


def _every(dataset: Dataset, episodes: Sequence[int]) -> int:
    rows = sum(dataset.episodes[number].length for number in episodes)
    return 1 + rows // ALL_RUNS


def _compare(number: int, runs: Sequence[int], holders: Mapping[int, int]) -> Copy | None:
    held = Counter(holders[run] for run in runs if run in holders)
    if not runs or held.total() < SHARE * len(runs):
        return None
    return Copy(number, held.most_common(1)[0][0], held.total() / len(runs))


def _runs_of_episode(dataset: Dataset, number: int, every: int) -> list[int]:
    episode = dataset.episodes[number]
    rows = slice(episode.start, episode.start + episode.length)
    return runs_of(dataset.states()[rows], dataset.actions()[rows], every)


def runs_of(states: Float32[np.ndarray, "rows S"], actions: Float32[np.ndarray, "rows n"], every: int = 1) -> list[int]:
    """Return the hashes of the runs of a recording in which the state moves; of about one run in `every`."""
    places = _hashes(states, 1)
    hashes = places + _hashes(actions, 2)
    length = min(RUN, len(hashes))
    windows = np.lib.stride_tricks.sliding_window_view(hashes, length)
    changes = np.concatenate([[0], np.cumsum(places[1:] != places[:-1])])
    taken = changes[length - 1 :] - changes[: len(changes) - length + 1] >= CHANGES
    if every > 1:
        taken &= _mixed(windows[:, 0]) % np.uint64(every) == 0
    return [int(run) for run in (_mixed(windows[taken]) * _weights(length, 3)).sum(axis=1)]


def _hashes(values: Float32[np.ndarray, "rows dims"], seed: int) -> UInt64[np.ndarray, " rows"]:
    """Return a hash of each row's bits."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    return np.asarray((_mixed(bits) * _weights(values.shape[1], seed)).sum(axis=1))


@cache
def _weights(count: int, seed: int) -> UInt64[np.ndarray, " count"]:
    odd = np.random.default_rng(seed).integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2)
    return np.asarray(odd + np.uint64(1))


def _mixed(values: UInt64[np.ndarray, " *shape"]) -> UInt64[np.ndarray, " *shape"]:
    """Spread each number's bits over all 64: of a float's bits the lowest are often zero."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(values ^ (values >> np.uint64(29)))
