"""Weighted quantiles and moments: NumPy's on the numbers written out, for any floats."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pi05.data.quantiles import PROBABILITIES, moments


@settings(max_examples=60, deadline=None)
@given(
    values=npst.arrays(
        np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    ),
    weights=npst.arrays(np.int64, 60, elements=st.integers(1, 5)),
    cut=st.integers(0, 60),
)
def test_weighted_quantiles_equal_numpy_for_any_numbers(values: np.ndarray, weights: np.ndarray, cut: int) -> None:
    """Any floats, subnormal and huge ones included, in two pieces of which one may be weighted."""
    counts = weights[: len(values)]
    cut = min(cut, len(values) - 1)

    def pieces():  # type: ignore[no-untyped-def]
        if cut:
            yield values[:cut], counts[:cut].astype(np.float64)
        yield np.repeat(values[cut:], counts[cut:]), None

    found = moments(pieces)
    repeated = np.repeat(values, counts).astype(np.float64)
    assert found["count"] == len(repeated)
    assert (found["min"], found["max"]) == (repeated.min(), repeated.max())
    for name, probability in PROBABILITIES.items():
        assert found[name] == np.quantile(repeated, probability), name
