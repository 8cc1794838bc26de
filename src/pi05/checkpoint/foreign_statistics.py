"""Statistics that give another program's arithmetic the same normalisation as ours.

openpi divides by q99 - q01 + 1e-6 (or std + 1e-6), LeRobot by q99 - q01 (or std), so the difference goes into q99 (or
std). openpi's π₀.₅ knows quantiles only. A mean and a deviation become the two quantiles that map alike. Statistics
that the policy does not normalise with are written as they are, and so are all when the formula is the reader's own.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pi05.data.statistics import DimStats
from pi05.data.transforms import LEROBOT_EPS, OPENPI_EPS, Formula, NormalizationMode

Numbers = Float[np.ndarray, " n"]

FIELDS = ("mean", "std", "min", "max", "q01", "q99")
COARSE = 1 / 256
"""A rounding of the statistics that moves a normalised value by more than this, half a state bin, is told."""


def lerobot_statistics(stats: DimStats, mode: NormalizationMode, formula: Formula) -> dict[str, Numbers]:
    """Return the statistics (float64) with which LeRobot's formula does what `formula` does with `stats`."""
    values = {name: stats.value(name) for name in FIELDS if name in stats.known}
    if formula == "openpi" and mode == "QUANTILES":
        values["q99"] = values["q99"] + OPENPI_EPS
    if formula == "openpi" and mode == "MEAN_STD":
        values["std"] = values["std"] + OPENPI_EPS
    return values


def openpi_statistics(stats: DimStats, mode: NormalizationMode, formula: Formula) -> dict[str, Numbers]:
    """Return mean, std, q01 and q99 with which openpi's quantile formula does what `formula` does with `stats`.

    openpi wants mean and std to be there, and does not use them: where unknown, they are the centre of the quantiles
    and half of their distance.
    """
    low, high = _ends(stats, mode, formula)
    unchanged = mode == "QUANTILES" and formula == "openpi"
    values = {"q01": low, "q99": stats.value("q99") if unchanged else high - OPENPI_EPS}
    values["mean"] = stats.value("mean") if "mean" in stats.known else (low + high) / 2
    values["std"] = stats.value("std") if "std" in stats.known else (high - low) / 2
    return values


def half_ranges(stats: DimStats, mode: NormalizationMode, formula: Formula) -> Numbers:
    """Return how many robot units one normalised unit is."""
    low, high = _ends(stats, mode, formula)
    return (high - low) / 2


def rounding(values: dict[str, Numbers], mode: NormalizationMode) -> Numbers:
    """Return by how much float32, in which LeRobot keeps statistics, moves normalised values, per dimension."""
    if mode == "IDENTITY":
        return np.zeros(len(next(iter(values.values()))))
    names = ("q01", "q99") if mode == "QUANTILES" else ("mean", "std")
    exact = [values[name] for name in names]
    moved = sum(np.abs(number - number.astype(np.float32).astype(np.float64)) for number in exact)
    unit = (exact[1] - exact[0]) / 2 if mode == "QUANTILES" else exact[1]
    return np.asarray(moved / np.maximum(unit, LEROBOT_EPS), np.float64)


def _ends(stats: DimStats, mode: NormalizationMode, formula: Formula) -> tuple[Numbers, Numbers]:
    """Return the values that become -1 and 1."""
    if mode == "IDENTITY":
        return -np.ones(stats.dim), np.ones(stats.dim)
    if mode == "MEAN_STD":
        deviation = stats.value("std") + (OPENPI_EPS if formula == "openpi" else 0.0)
        return stats.value("mean") - deviation, stats.value("mean") + deviation
    low, width = stats.value("q01"), stats.value("q99") - stats.value("q01")
    width = width + OPENPI_EPS if formula == "openpi" else np.where(width == 0, LEROBOT_EPS, width)
    return low, low + width
