"""Statistics for other programs: against NumPy on the same numbers and pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.data.lerobot.feature_stats import PICTURES_PER_EPISODE, QUANTILES, histogram, number_stats, picture_stats


def test_numbers() -> None:
    values = np.random.default_rng(0).normal(size=(501, 3)).astype(np.float32)
    stats = number_stats(values)
    np.testing.assert_array_equal(stats["min"], values.min(0))
    np.testing.assert_allclose(stats["std"], values.std(0, dtype=np.float64))
    for quantile in QUANTILES:
        expected = np.quantile(values.astype(np.float64), quantile, axis=0)
        np.testing.assert_allclose(stats[f"q{round(quantile * 100):02d}"], expected)
    assert stats["count"].tolist() == [501]
    assert number_stats(np.arange(5))["mean"].tolist() == [2.0]


@pytest.mark.parametrize("length", [1, 5, PICTURES_PER_EPISODE, 100])
def test_pictures(length: int) -> None:
    images = list(np.random.default_rng(0).integers(30, 200, (length, 8, 6, 3), dtype=np.uint8))
    counts, pictures = histogram(images)
    assert pictures == min(length, PICTURES_PER_EPISODE)
    assert counts.sum(1).tolist() == [pictures * 48] * 3
    if length > PICTURES_PER_EPISODE:
        return
    stats, pixels = picture_stats(counts, pictures), np.stack(images).reshape(-1, 3) / 255
    assert stats["mean"].shape == (3, 1, 1)
    for name, expected in {
        "min": pixels.min(0),
        "max": pixels.max(0),
        "mean": pixels.mean(0),
        "std": pixels.std(0),
        "q50": np.quantile(pixels, 0.5, axis=0, method="inverted_cdf"),
        "q99": np.quantile(pixels, 0.99, axis=0, method="inverted_cdf"),
    }.items():
        np.testing.assert_allclose(stats[name].ravel(), expected, atol=1e-9)
