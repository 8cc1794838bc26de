"""Exact moments and quantiles of one column that is too long to hold, read as a stream of weighted pieces.

Quantiles equal `numpy.quantile(..., method="linear")` on the materialised float32 values. The order statistics come
from a radix selection on the bit patterns: one pass counts the upper 16 bits, a second one the lower 16 bits within
the buckets that hold a wanted rank. Memory is one piece and a few tables of 65,536 counters, whatever the length, the
ties or the outliers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

PROBABILITIES = {"q001": 0.001, "q01": 0.01, "q99": 0.99, "q999": 0.999}

Piece = tuple[np.ndarray, np.ndarray | None]
"""float32 values of one dimension and how often each counts (None: once)."""


def moments(pieces: Callable[[], Iterator[Piece]]) -> dict[str, float]:
    """Return count, mean, population std, min, max and the quantiles of `PROBABILITIES`, in two passes."""
    count, total, low, high = 0.0, 0.0, np.inf, -np.inf
    upper = np.zeros(1 << 16)
    for values, weights in pieces():
        count += len(values) if weights is None else weights.sum()
        total += values.sum(dtype=np.float64) if weights is None else (values * weights).sum(dtype=np.float64)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        upper += np.bincount(_sortable(values) >> 16, weights, 1 << 16)
    mean = total / count
    ranks = [_bracket(probability, int(count)) for probability in PROBABILITIES.values()]
    needed = sorted({rank for below, above, _ in ranks for rank in (below, above)})
    cumulative = np.cumsum(upper)
    buckets = {rank: int(np.searchsorted(cumulative, rank, side="right")) for rank in needed}
    lower = {bucket: np.zeros(1 << 16) for bucket in buckets.values()}
    squares = 0.0
    for values, weights in pieces():
        deviations = (values.astype(np.float64) - mean) ** 2
        squares += deviations.sum() if weights is None else (deviations * weights).sum()
        keys = _sortable(values)
        for bucket, counts in lower.items():
            inside = keys >> 16 == bucket
            if inside.any():
                counts += np.bincount(keys[inside] & 0xFFFF, None if weights is None else weights[inside], 1 << 16)
    order = {}
    for rank, bucket in buckets.items():
        before = cumulative[bucket] - upper[bucket]
        order[rank] = _value(bucket << 16 | int(np.searchsorted(np.cumsum(lower[bucket]), rank - before, side="right")))
    quantiles = [_between(order[below], order[above], share) for below, above, share in ranks]
    return {
        "count": count,
        "mean": mean,
        "std": float(np.sqrt(squares / count)),
        "min": low,
        "max": high,
        **dict(zip(PROBABILITIES, quantiles, strict=True)),
    }


def _bracket(probability: float, count: int) -> tuple[int, int, float]:
    """Return the two ranks around a quantile and the share of the way between them (NumPy's "linear")."""
    position = probability * (count - 1)
    below = int(np.floor(position))
    return below, min(below + 1, count - 1), position - below


def _between(low: float, high: float, share: float) -> float:
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share


def _sortable(values: np.ndarray) -> np.ndarray:
    """Return unsigned keys in the order of the float32 values: flip all bits of negatives, the sign bit of the rest."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    negative = bits >> 31 == 1
    return np.where(negative, ~bits, bits | np.uint32(1 << 31)).astype(np.int64)


def _value(key: int) -> float:
    """Undo `_sortable` for one key."""
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
