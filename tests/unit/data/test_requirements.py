"""Settings of a policy that cannot be."""

from __future__ import annotations

import pytest

from pi05.data.requirements import require_settings
from pi05.errors import DataError


@pytest.mark.parametrize(
    ("modes", "prompt_format", "dim", "part"),
    [
        ({"STATE": "QUANTILES"}, "state", 3, "normalisation mapping"),
        ({"STATE": "QUANTILES", "ACTION": "MIN_MAX"}, "state", 3, "normalisation mapping"),
        ({"STATE": "IDENTITY", "ACTION": "IDENTITY", "VISUAL": "MEAN_STD"}, "state", 3, "images are always scaled"),
        ({"STATE": "IDENTITY", "ACTION": "IDENTITY"}, "words", 3, "prompt format is unknown"),
        ({"STATE": "IDENTITY", "ACTION": "IDENTITY"}, "none", 9, "more action dimensions than the network"),
    ],
)
def test_impossible_settings(modes: dict[str, str], prompt_format: str, dim: int, part: str) -> None:
    with pytest.raises(DataError, match=part):
        require_settings(modes, prompt_format, dim, 8, None)
