"""True statistics of states and actions: one streaming pass over the parquet files, exact quantiles, in bounded memory.

States are counted over the training frames. Actions are counted over the valid steps of the training chunks, after the
action transform, as the loss sees them. An absolute action counts as often as chunks contain it, a relative one is
a[t+k] - s[t] for every step k of every chunk t. Padded steps do not count. `meta/stats.json` is not read: LeRobot's
files hold averages or envelopes of per-episode quantiles, and openpi's a 5,000-bin histogram's.

Exactness: quantiles equal `numpy.quantile(..., method="linear")` on the materialised float32 values. Order statistics
come from a radix selection on the bit patterns (two passes of 65,536 counters), so that relative actions need no array
of horizon × frames. Memory: the state and action arrays of the training episodes.

Floor: a dimension whose quantile range is tiny would blow noise up to huge normalised values (q99 = q01 divides by
1e-6). Its range is widened about its centre to the larger of 1e-4 (below any sensor) and 10 % of the spread between its
0.1 % and 99.9 % quantiles. What happens in at least 0.1 % of the data then stays within about ±20, while a single
glitch cannot squeeze a good dimension. Each widened dimension is named in a warning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from pi05.data.quantiles import Piece, moments
from pi05.errors import DataError

ABSOLUTE_FLOOR = 1e-4
"""Smallest quantile range, in the dimension's own unit."""
SPREAD_FLOOR = 0.1
"""Smallest quantile range as a share of the spread between the 0.1 % and 99.9 % quantiles."""
GLITCH = 50.0
"""Normalised values beyond ± this are named in a warning: a handful of frames, most likely broken."""
_STD_PER_RANGE = 1 / 4.6527
"""Standard deviation of a Gaussian whose q99 - q01 is 1."""
_FIELDS = ("mean", "std", "min", "max", "q01", "q99")


@runtime_checkable
class EpisodeSource(Protocol):
    """What statistics need of a data set (`lerobot.Dataset` has it)."""

    state_key: str
    action_key: str
    state_names: Sequence[str]
    action_names: Sequence[str]

    def columns(self, names: Sequence[str], episode: int) -> dict[str, np.ndarray]:
        """Return whole columns of one episode."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DimStats:
    """Statistics per dimension, float64; `std` is that of the population. `widened` lists floored dimensions.

    What a foreign checkpoint does not tell is None; what `compute_statistics` returns is complete.
    """

    mean: Float[np.ndarray, " n"] | None = None
    std: Float[np.ndarray, " n"] | None = None
    min: Float[np.ndarray, " n"] | None = None
    max: Float[np.ndarray, " n"] | None = None
    q01: Float[np.ndarray, " n"] | None = None
    q99: Float[np.ndarray, " n"] | None = None
    count: int
    widened: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.known:
            raise DataError(
                "the statistics are empty",
                wanted=f"some of {', '.join(_FIELDS)}",
                found="none of them",
                remedy="train again from the data, or take the checkpoint's untouched files",
            )

    @property
    def known(self) -> list[str]:
        """Names of the statistics that are there."""
        return [name for name in _FIELDS if getattr(self, name) is not None]

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return len(getattr(self, self.known[0]))

    def value(self, name: str) -> Float[np.ndarray, " n"]:
        """Return one statistic. Raises DataError when it is not known."""
        array = getattr(self, name)
        if array is None:
            raise DataError(
                f"the statistics lack {name}",
                wanted=name,
                found=", ".join(self.known),
                remedy="train with --stats recompute, or add the statistic to the checkpoint that they come from",
            )
        return np.asarray(array, np.float64)

    @property
    def range(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None:
        """Lowest and highest values of the training data, or its 1 % and 99 % quantiles, or None when unknown."""
        for low, high in (("min", "max"), ("q01", "q99")):
            if low in self.known and high in self.known:
                return self.value(low), self.value(high)
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what is not known is None."""
        arrays = {name: None if (array := getattr(self, name)) is None else array.tolist() for name in _FIELDS}
        return {**arrays, "count": self.count, "widened": list(self.widened)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DimStats:
        """Build from `to_dict`. Raises DataError when a statistic is missing or lengths disagree."""
        missing = [name for name in _FIELDS if name not in values]
        given = {name: values[name] for name in _FIELDS if values.get(name) is not None}
        lengths = {name: len(numbers) for name, numbers in given.items()}
        if missing or len(set(lengths.values())) != 1:
            raise DataError(
                "the stored statistics are incomplete",
                wanted=f"{', '.join(_FIELDS)}, all of one length",
                found=f"missing: {', '.join(missing) or 'none'}; lengths: {lengths}",
                remedy="take the checkpoint's untouched config.json, or train again from the data",
            )
        arrays = {name: np.asarray(numbers, np.float64) for name, numbers in given.items()}
        return cls(**arrays, count=int(values.get("count", 0)), widened=tuple(values.get("widened", ())))


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a training set, what is peculiar about them, and a hash that identifies them."""

    state: DimStats
    action: DimStats
    warnings: list[str]

    @property
    def sha256(self) -> str:
        """Hash of all numbers; the same data and settings give the same hash."""
        text = json.dumps({"state": self.state.to_dict(), "action": self.action.to_dict()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def compute_statistics(
    dataset: EpisodeSource,
    episodes: Sequence[int],
    horizon: int,
    relative_mask: Bool[np.ndarray, " n"] | None = None,
) -> Statistics:
    """Compute the statistics over the training episodes. `relative_mask` marks actions relative to the state.

    Raises DataError for no episodes, for NaN or infinite values (naming episode, frame and dimension), and for a
    relative dimension without a state of the same index.
    """
    if not len(episodes):
        raise DataError("there is no training episode", wanted="at least one", remedy="choose more --dataset.episodes")
    states, actions, steps_left = _read(dataset, episodes)
    mask = np.zeros(actions.shape[1], bool) if relative_mask is None else np.asarray(relative_mask, bool)
    _require_states_for(mask, actions.shape[1], states.shape[1])
    inside = np.concatenate([np.arange(count) for count in _lengths(steps_left)])
    weights = np.minimum(inside + 1, horizon).astype(np.float64)

    def relative_pieces(dimension: int) -> Iterator[Piece]:
        for step in range(horizon):
            starts = np.flatnonzero(steps_left > step)
            if len(starts):
                yield actions[starts + step, dimension] - states[starts, dimension], None

    def action_pieces(dimension: int) -> Iterator[Piece]:
        if mask[dimension]:
            yield from relative_pieces(dimension)
        else:
            yield actions[:, dimension], weights

    def state_pieces(dimension: int) -> Iterator[Piece]:
        yield states[:, dimension], None

    warnings: list[str] = []
    state = _all_dimensions("state", _names(dataset.state_names, states.shape[1]), state_pieces, warnings)
    action = _all_dimensions("action", _names(dataset.action_names, actions.shape[1]), action_pieces, warnings)
    return Statistics(state, action, warnings)


def _read(dataset: EpisodeSource, episodes: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return states [N, S], actions [N, n] and, per frame, how many frames remain in its episode, itself included."""
    states: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    steps_left: list[np.ndarray] = []
    for episode in episodes:
        columns = dataset.columns([dataset.state_key, dataset.action_key], episode)
        for key, parts in ((dataset.state_key, states), (dataset.action_key, actions)):
            values = np.asarray(columns[key], np.float32)
            values = values.reshape(len(values), -1)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                raise DataError(
                    f"{key} holds a value that is not a number",
                    wanted="finite values",
                    found=f"{values[tuple(bad[0])]} in episode {episode}, frame {bad[0][0]}, dimension {bad[0][1]}",
                    remedy=f"repair the recording, or leave it out: --dataset.exclude_episodes '[{episode}]'",
                )
            parts.append(values)
        steps_left.append(np.arange(len(states[-1]), 0, -1))
    return np.concatenate(states), np.concatenate(actions), np.concatenate(steps_left)


def _lengths(steps_left: np.ndarray) -> np.ndarray:
    ends = np.flatnonzero(steps_left == 1) + 1
    return np.diff(ends, prepend=0)


def _require_states_for(mask: np.ndarray, action_dim: int, state_dim: int) -> None:
    if len(mask) != action_dim or (mask.any() and int(np.flatnonzero(mask)[-1]) >= state_dim):
        raise DataError(
            "relative actions need a state for each of their dimensions, at the same index",
            wanted=f"a mask of {action_dim} dimensions, relative only below state dimension {state_dim}",
            found=f"a mask of {len(mask)}, relative: {np.flatnonzero(mask).tolist()}",
            remedy="exclude the others with --policy.relative_exclude_joints, or train on absolute actions",
        )


def _names(names: Sequence[str], count: int) -> list[str]:
    return list(names) if len(names) == count else [str(i) for i in range(count)]


def _all_dimensions(
    kind: str, names: list[str], pieces: Callable[[int], Iterator[Piece]], warnings: list[str]
) -> DimStats:
    """Compute every dimension, floor what is too narrow, and say so in `warnings`."""
    rows = [moments(lambda i=i: pieces(i)) for i in range(len(names))]  # type: ignore[misc]
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    count = int(columns.pop("count")[0])
    spread = columns.pop("q999") - columns.pop("q001")
    width = columns["q99"] - columns["q01"]
    floor = np.maximum(ABSOLUTE_FLOOR, SPREAD_FLOOR * spread)
    narrow = width < floor
    centre = (columns["q01"] + columns["q99"]) / 2
    columns["q01"] = np.where(narrow, centre - floor / 2, columns["q01"])
    columns["q99"] = np.where(narrow, centre + floor / 2, columns["q99"])
    columns["std"] = np.where(narrow, np.maximum(columns["std"], floor * _STD_PER_RANGE), columns["std"])
    stats = DimStats(**columns, count=count, widened=tuple(np.flatnonzero(narrow).tolist()))
    labels = [name if name == str(i) else f"{i} ({name})" for i, name in enumerate(names)]
    warnings += _peculiarities(kind, labels, stats, width)
    return stats


def _peculiarities(kind: str, labels: list[str], stats: DimStats, width: np.ndarray) -> list[str]:
    """Return a sentence on constant dimensions, each nearly constant one, and each with far outliers."""
    low, high, q01, q99 = (stats.value(name) for name in ("min", "max", "q01", "q99"))
    constant = high == low
    chosen = [label for label, hit in zip(labels, constant, strict=True) if hit]
    sentences = []
    if chosen:
        counted = f"{len(chosen)} {kind} dimension{'s are' if len(chosen) > 1 else ' is'} constant"
        sentences.append(f"{counted}: {', '.join(chosen)}; the range is widened to {ABSOLUTE_FLOOR:g}")
    final = q99 - q01
    for i in stats.widened:
        if not constant[i]:
            sentences.append(
                f"{kind} dimension {labels[i]} is nearly constant: q99 - q01 = {width[i]:.3g}, while it spans "
                f"{low[i]:.4g} to {high[i]:.4g}; the range is widened to {final[i]:.3g}"
            )
    centre = (q01 + q99) / 2
    farthest = np.maximum(high - centre, centre - low) * 2 / final
    for i in np.flatnonzero(farthest > GLITCH).tolist():
        sentences.append(
            f"{kind} dimension {labels[i]} has rare values far outside its range: {low[i]:.4g} to "
            f"{high[i]:.4g} against q01 = {q01[i]:.4g}, q99 = {q99[i]:.4g} "
            f"(up to {farthest[i]:.0f} after normalisation); look for broken frames"
        )
    return sentences
