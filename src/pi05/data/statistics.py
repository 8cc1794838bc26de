"""True statistics of states and actions: one streaming pass over the parquet files, exact quantiles, in bounded memory.

States are counted over the training frames. Actions are counted over the valid steps of the training chunks, after the
action transform, as the loss sees them. An absolute action counts as often as chunks contain it, a relative one is
a[t+k] - s[t] for every step k of every chunk t. Padded steps do not count. `meta/stats.json` is not read: LeRobot's
files hold averages or envelopes of per-episode quantiles, and openpi's a 5,000-bin histogram's.

Exactness: quantiles equal `numpy.quantile(..., method="linear")` on the materialised float32 values. Order statistics
come from a radix selection on the bit patterns (two passes of 65,536 counters), so that relative actions need no array
of horizon × frames. Memory: the state and action arrays of the training episodes.

A dimension that hardly moves gets a wider range (`range_floor.py`), unless the peers' plain quantiles are asked for.
Each widened dimension is named in a warning.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from pi05.data.quantiles import moments
from pi05.data.range_floor import ABSOLUTE_FLOOR, SPREAD_FLOOR, Spread, least_range
from pi05.data.training_steps import EpisodeSource, Kind, TrainingSteps, read_steps
from pi05.errors import DataError

GLITCH = 50.0
"""Normalised values beyond ± this are named in a warning: a handful of frames, most likely broken."""
_STD_PER_RANGE = 1 / 4.6527
"""Standard deviation of a Gaussian whose q99 - q01 is 1."""
OPENPI_EPS = 1e-6
"""What openpi adds to the range, or to the standard deviation, before it divides."""
Floor = Literal["lasting", "spread", "none"]
_FIELDS = ("mean", "std", "min", "max", "q01", "q99")


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
    *,
    floor: Floor = "lasting",
) -> Statistics:
    """Compute the statistics over the training episodes. `relative_mask` marks actions relative to the state.

    `floor`: which range a dimension has at least; "none" gives plain quantiles, "spread" is the rule of version 0.1.

    Raises DataError for no episodes, for NaN or infinite values (naming episode, frame and dimension), and for a
    relative dimension without a state of the same index.
    """
    steps = read_steps(dataset, episodes, horizon, relative_mask)
    warnings: list[str] = []
    state = _all_dimensions("state", _names(dataset.state_names, steps.states.shape[1]), steps, floor, warnings)
    action = _all_dimensions("action", _names(dataset.action_names, len(steps.relative)), steps, floor, warnings)
    return Statistics(state, action, warnings)


def _names(names: Sequence[str], count: int) -> list[str]:
    return list(names) if len(names) == count else [str(i) for i in range(count)]


def _all_dimensions(kind: Kind, names: list[str], steps: TrainingSteps, floor: Floor, warnings: list[str]) -> DimStats:
    """Compute every dimension, widen what is too narrow, and say so in `warnings`."""
    rows = [moments(lambda i=i: steps.pieces(kind, i)) for i in range(len(names))]  # type: ignore[misc]
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    count = int(columns.pop("count")[0])
    spread = columns.pop("q999") - columns.pop("q001")
    width = columns["q99"] - columns["q01"]
    centre = (columns["q01"] + columns["q99"]) / 2
    least = _least(kind, steps, floor, width, spread)
    narrow = width < least
    columns["q01"] = np.where(narrow, centre - least / 2, columns["q01"])
    columns["q99"] = np.where(narrow, centre + least / 2, columns["q99"])
    columns["std"] = np.where(narrow, np.maximum(columns["std"], least * _STD_PER_RANGE), columns["std"])
    stats = DimStats(**columns, count=count, widened=tuple(np.flatnonzero(narrow).tolist()))
    labels = [name if name == str(i) else f"{i} ({name})" for i, name in enumerate(names)]
    warnings += _peculiarities(kind, labels, stats, width)
    return stats


def _least(kind: Kind, steps: TrainingSteps, floor: Floor, width: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the least range of each dimension by a rule."""
    if floor == "none":
        return np.zeros_like(width)
    if floor == "spread":
        return np.maximum(ABSOLUTE_FLOOR, SPREAD_FLOOR * spread)
    calm = functools.cache(steps.steady)

    def lasting(i: int) -> Spread:
        found = moments(lambda: calm().pieces(kind, i))
        return Spread(usual=found["q999"] - found["q001"], whole=found["max"] - found["min"])

    return least_range(width, spread, lasting, lambda i: steps.episode_spreads(kind, i))


def _peculiarities(kind: str, labels: list[str], stats: DimStats, width: np.ndarray) -> list[str]:
    """Return a sentence on constant dimensions, each nearly constant one, and each with far outliers."""
    low, high, q01, q99 = (stats.value(name) for name in ("min", "max", "q01", "q99"))
    constant = high == low
    chosen = [label for label, hit in zip(labels, constant, strict=True) if hit]
    sentences = []
    if chosen:
        counted = f"{len(chosen)} {kind} dimension{'s are' if len(chosen) > 1 else ' is'} constant"
        widened = set(np.flatnonzero(constant)) <= set(stats.widened)
        what = f"the range is widened to {ABSOLUTE_FLOOR:g}" if widened else "the range stays 0, as was asked for"
        sentences.append(f"{counted}: {', '.join(chosen)}; {what}")
    final = q99 - q01 + OPENPI_EPS
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
