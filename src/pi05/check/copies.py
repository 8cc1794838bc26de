"""Episodes that hold the same recording: number for number, or a piece of it.

A piece, as trimming or cutting leaves it, is found by its runs of rows: of every run of `RUN` rows in which something
moves a hash is taken, and those that begin at some rows, which the rows' own numbers decide, are looked for in the
other episodes. So a run is found wherever it begins, and a million rows take a second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt64

from pi05.data.lerobot.identity import hash_episode
from pi05.data.lerobot.reader import Dataset

RUN = 16
"""Rows; so many do not agree in state and action, to the last bit, unless they are one recording."""
EVERY = np.uint64(4)
"""About one run in so many is looked for."""
FEWEST_RUNS = 3
SHARE = 0.5
"""Of the runs of the shorter of two episodes that are in the other one, from which on it is a copy."""


@dataclass(frozen=True)
class Copy:
    """An episode whose recording another one holds, too."""

    episode: int
    of: int
    share: float
    """Of the shorter one's runs that both have; 1 where all numbers are the same, too."""
    is_whole: bool
    """Whether the two are the same number for number."""

    def __str__(self) -> str:
        if self.is_whole:
            return f"{self.episode} of {self.of}"
        return f"{self.episode} of {self.of} ({self.share:.0%} of the shorter one)"


def find_copies(dataset: Dataset, episodes: Sequence[int]) -> list[Copy]:
    """Return the episodes that are copies of others, or share half of their rows with them; not of what stands still.

    Of two the later one in the order of `episodes` is the copy.
    """
    moving = [number for number in episodes if _moves(dataset, number)]
    whole = list(_whole(dataset, moving))
    left = [number for number in moving if number not in {copy.episode for copy in whole}]
    return [*whole, *_pieces(dataset, left)]


def _moves(dataset: Dataset, number: int) -> bool:
    states = dataset.states()[_rows(dataset, number)]
    return not bool((states == states[0]).all())


def _rows(dataset: Dataset, number: int) -> slice:
    episode = dataset.episodes[number]
    return slice(episode.start, episode.start + episode.length)


def _whole(dataset: Dataset, episodes: Sequence[int]) -> Iterable[Copy]:
    lengths = Counter(dataset.episodes[number].length for number in episodes)
    first: dict[str, int] = {}
    for number in episodes:
        if lengths[dataset.episodes[number].length] > 1:  # only recordings of one length can be the same
            of = first.setdefault(hash_episode(dataset, number), number)
            if of != number:
                yield Copy(number, of, 1.0, True)


def _pieces(dataset: Dataset, episodes: Sequence[int]) -> list[Copy]:
    holders: defaultdict[int, list[int]] = defaultdict(list)
    counts: dict[int, int] = {}
    for number in episodes:
        rows = _rows(dataset, number)
        runs = set(runs_of(dataset.states()[rows], dataset.actions()[rows]))
        counts[number] = len(runs)
        for run in runs:
            holders[run].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        shared.update((number, numbers[0]) for number in numbers[1:])
    found: dict[int, Copy] = {}
    for (number, of), count in shared.items():
        fewest = min(counts[number], counts[of])
        if fewest >= FEWEST_RUNS and count >= SHARE * fewest and number not in found:
            found[number] = Copy(number, of, count / fewest, False)
    return [found[number] for number in episodes if number in found]


def runs_of(states: Float32[np.ndarray, "rows S"], actions: Float32[np.ndarray, "rows n"]) -> list[int]:
    """Return the hashes of a recording's runs that are looked for."""
    hashes = _hashes(states, 1) + _hashes(actions, 2)
    if len(hashes) < RUN:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(hashes, RUN)
    changes = np.concatenate([hashes[1:] != hashes[:-1], [False]])
    moves = np.lib.stride_tricks.sliding_window_view(changes, RUN).sum(axis=1) >= RUN // 2
    begins = (_mixed(windows[:, 0]) % EVERY == 0) & moves
    return [int(run) for run in (_mixed(windows[begins]) * _weights(RUN, 3)).sum(axis=1)]


def _hashes(values: Float32[np.ndarray, "rows dims"], seed: int) -> UInt64[np.ndarray, " rows"]:
    """Return a hash of each row's bits."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    return np.asarray((_mixed(bits) * _weights(values.shape[1], seed)).sum(axis=1))


def _weights(count: int, seed: int) -> UInt64[np.ndarray, " count"]:
    odd = np.random.default_rng(seed).integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2)
    return np.asarray(odd + np.uint64(1))


def _mixed(values: UInt64[np.ndarray, " *shape"]) -> UInt64[np.ndarray, " *shape"]:
    """Spread each number's bits over all 64: of a float's bits the lowest are often zero."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(values ^ (values >> np.uint64(29)))
