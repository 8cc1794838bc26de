"""What do statistics that do not fit look like? Another unit, another zero, another representation, another robot.

Compares the ranges of statistics with those of data, dimension by dimension. A guess in plain words, from which a user
finds the cause faster than from a hundred numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pi05.data.statistics import DimStats

Kind = Literal["identity", "absolute", "relative", "degrees", "radians", "percent", "millimetres", "scaled", "shifted"]
_FACTORS: tuple[tuple[float, Kind, str], ...] = (
    (180 / np.pi, "degrees", "The data is about 57 times as large: degrees, where the base has radians."),
    (np.pi / 180, "radians", "The data is about a 57th: radians, where the base has degrees."),
    (
        100.0,
        "percent",
        "The data is about 100 times as large: per cent or centimetres, where the base has 0 to 1 or m.",
    ),
    (0.01, "percent", "The data is about a 100th: 0 to 1 or metres, where the base has per cent or centimetres."),
    (1000.0, "millimetres", "The data is about 1000 times as large: millimetres, where the base has metres."),
    (0.001, "millimetres", "The data is about a 1000th: metres, where the base has millimetres."),
)
NEAR_FACTOR = 1.28
"""How far the middle one of a robot's ratios may be from a known factor; 57 and 100 lie further apart than twice."""
SPREAD = 2.0
"""The middle half of the ratios of a mere factor lies within this from the middle one."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What statistics look like beside the data."""

    kind: Kind | Literal["other"]
    text: str
    ratios: tuple[float, ...]
    """Range of the data over that of the statistics; 0 for a dimension without a range in either."""

    @property
    def moving(self) -> int:
        """Dimensions that have a range in both."""
        return sum(ratio > 0 for ratio in self.ratios)


def liken(
    stats: DimStats, values: np.ndarray, other: np.ndarray | None, *, of_states: bool, relative: bool
) -> Likeness:
    """Say what statistics look like; `values` are what they should describe, `other` actions in the other form.

    `relative`: `values` are relative to the state, and `other` are not.
    """
    low, high = _range_of(stats)
    own_low, own_high = (np.quantile(values, q, axis=0) for q in (0.01, 0.99))
    ratios = _ratios(own_high - own_low, high - low)
    kind: Kind | Literal["other"] = "other"
    text = "They look like those of another robot, task or action space."
    if _is_identity(stats):
        kind, text = "identity", "They are placeholders, -1 to 1 or mean 0 and standard deviation 1 in all dimensions."
    elif other is not None and _distance(low, high, other) < 0.5 * _distance(low, high, values):
        kind = "absolute" if relative else "relative"
        form, run = ("absolute", "relative to the state") if relative else ("relative to the state", "absolute")
        text = f"They fit actions that are {form}; those of this run are {run} (--policy.use_relative_actions)."
    else:
        middle, spread = _middle(ratios)
        for factor, known, words in _FACTORS:
            if middle and spread < SPREAD and max(middle / factor, factor / middle) < NEAR_FACTOR:
                return Likeness(kind=known, text=words, ratios=tuple(ratios.tolist()))
        offset = np.abs((own_low + own_high) - (low + high)) / 2 / np.maximum(high - low, 1e-12)
        if middle and spread < SPREAD and not 1 / 1.5 < middle < 1.5:
            kind, text = "scaled", f"All dimensions are about {middle:.3g} times as large as in the base: another unit?"
        elif middle and 1 / 1.5 < middle < 1.5 and float(np.median(offset[ratios > 0])) > 0.1:
            kind = "shifted"
            of = "states" if of_states else "actions"
            text = f"The {of} move as far as in the base, around another middle: another zero or calibration?"
    return Likeness(kind=kind, text=text, ratios=tuple(ratios.tolist()))


def _range_of(stats: DimStats) -> tuple[np.ndarray, np.ndarray]:
    """Return what counts as the range of statistics: quantiles, else two and a half standard deviations."""
    if {"q01", "q99"} <= set(stats.known):
        return stats.value("q01"), stats.value("q99")
    mean, reach = stats.value("mean"), 2.33 * stats.value("std")
    return mean - reach, mean + reach


def _is_identity(stats: DimStats) -> bool:
    pairs = (("q01", "q99", -1.0, 1.0), ("mean", "std", 0.0, 1.0))
    told = [p for p in pairs if {p[0], p[1]} <= set(stats.known)]
    return any(np.all(stats.value(a) == x) and np.all(stats.value(b) == y) for a, b, x, y in told)


def _ratios(own: np.ndarray, of_stats: np.ndarray) -> np.ndarray:
    """Return width over width; 0 where one of them is nothing."""
    moving = (own > 1e-6) & (of_stats > 1e-6)
    return np.where(moving, own / np.where(moving, of_stats, 1.0), 0.0)


def _middle(ratios: np.ndarray) -> tuple[float, float]:
    """Return the middle ratio, and how far the middle half reaches from it, as a factor; (0, 1) without any."""
    moving = ratios[ratios > 0]
    if not len(moving):
        return 0.0, 1.0
    first, middle, third = (float(value) for value in np.quantile(moving, (0.25, 0.5, 0.75)))
    return middle, max(third / middle, middle / first)


def _distance(low: np.ndarray, high: np.ndarray, values: np.ndarray) -> float:
    """Return how far ranges are from those of values, in the middle dimension: 0 for the same, 1 for half or beside."""
    own_low, own_high = (np.quantile(values, q, axis=0) for q in (0.01, 0.99))
    own, given = own_high - own_low, high - low
    moving = (own > 1e-6) & (given > 1e-6)
    if not moving.any():
        return float("inf")
    own, given = own[moving], given[moving]
    scale = np.abs(np.log2(own / given))
    shift = np.abs(own_low + own_high - low - high)[moving] / np.maximum(own, given)
    return float(np.median(scale + shift))
