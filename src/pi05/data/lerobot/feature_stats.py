"""Statistics as LeRobot keeps them in `meta/stats.json` and per episode: for other programs, pi05 itself never reads
them (`data/statistics.py` computes what training uses).

Numbers: exact over all frames. Pictures: over a sample of frames per episode, from a histogram of the 256 values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64, Shaped, UInt8

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
PICTURES_PER_EPISODE = 16

Stats = dict[str, np.ndarray]


def number_stats(values: Shaped[np.ndarray, "frames ..."]) -> Stats:
    """Return min, max, mean, std, count and quantiles over the frames, one entry per dimension."""
    table = values.reshape(len(values), -1).astype(np.float64)
    stats = {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}
    stats["count"] = np.array([len(table)])
    for quantile, row in zip(QUANTILES, np.quantile(table, QUANTILES, axis=0), strict=True):
        stats[_name(quantile)] = row
    return stats


def histogram(images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> tuple[Int64[np.ndarray, "3 256"], int]:
    """Return how often each value occurs per colour in an evenly spaced sample, and the sample's size."""
    chosen = np.unique(np.linspace(0, len(images) - 1, PICTURES_PER_EPISODE).round().astype(int))
    counts = np.zeros((3, 256), np.int64)
    for number in chosen:
        for colour in range(3):
            counts[colour] += np.bincount(images[number][..., colour].ravel(), minlength=256)
    return counts, len(chosen)


def picture_stats(counts: Int64[np.ndarray, "3 256"], pictures: int) -> Stats:
    """Return the same statistics per colour, of values scaled to [0, 1], each of shape [3, 1, 1]."""
    values = np.arange(256) / 255
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ values
    seen = counts > 0
    stats = {
        "min": values[seen.argmax(1)],
        "max": values[255 - seen[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ values**2 - mean**2, 0)),
    }
    below = share.cumsum(1)
    for quantile in QUANTILES:
        stats[_name(quantile)] = values[(below >= quantile - 1e-12).argmax(1)]
    stats = {name: _per_colour(array) for name, array in stats.items()}
    stats["count"] = np.array([pictures])
    return stats


def _name(quantile: float) -> str:
    return f"q{round(quantile * 100):02d}"


def _per_colour(array: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 1 1"]:
    return array.reshape(3, 1, 1)
