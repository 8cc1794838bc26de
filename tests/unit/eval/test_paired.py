from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi05.eval.paired import PairedOutcomes
from pi05.eval.result import wilson_interval

counts = st.integers(0, 60)
outcomes = st.builds(PairedOutcomes, both=counts, only_a=counts, only_b=counts, neither=counts).filter(
    lambda o: o.pairs
)


def swapped(found: PairedOutcomes) -> PairedOutcomes:
    return PairedOutcomes(both=found.both, only_a=found.only_b, only_b=found.only_a, neither=found.neither)


@settings(max_examples=100, deadline=None)
@given(outcomes)
def test_a_and_b_are_treated_alike(found: PairedOutcomes) -> None:
    other = swapped(found)
    low, high = found.interval
    assert -1.0 <= low <= found.difference <= high <= 1.0
    assert other.interval == pytest.approx((-high, -low), abs=1e-12)
    assert other.p_value == found.p_value
    assert found.episodes_for(0.1) == other.episodes_for(-0.1)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (1, 9, 22 / 1024), (5, 5, 1.0), (2, 8, 112 / 1024)],
)
def test_mcnemar_is_the_two_sided_binomial_test(only_a: int, only_b: int, p: float) -> None:
    assert PairedOutcomes(both=7, only_a=only_a, only_b=only_b, neither=3).p_value == pytest.approx(p)


def test_without_correlation_the_interval_is_newcombe_s_for_two_samples() -> None:
    """Where both always succeed in A's successes there is no correlation to use (a margin is empty): method 10 of the
    unpaired paper remains, which is put together from two Wilson intervals."""
    found = PairedOutcomes(both=20, only_a=0, only_b=10, neither=0)
    (low_a, high_a), (low_b, high_b) = wilson_interval(20, 30), wilson_interval(30, 30)
    below = math.hypot(1.0 - low_b, high_a - 20 / 30)
    above = math.hypot(high_b - 1.0, 20 / 30 - low_a)
    assert found.interval == pytest.approx((1 / 3 - below, 1 / 3 + above))


def test_the_interval_covers_the_true_difference() -> None:
    """Exact over all outcomes of 20 pairs, at several truths: on average 95 %, nowhere far less."""
    n, covered = 20, []
    tables = [(a, b, c, n - a - b - c) for a, b, c in product(range(n + 1), repeat=3) if a + b + c <= n]
    ways = {t: math.factorial(n) // math.prod(math.factorial(k) for k in t) for t in tables}
    intervals = {t: PairedOutcomes(both=t[0], only_a=t[1], only_b=t[2], neither=t[3]).interval for t in tables}
    for truth in [(0.6, 0.1, 0.2, 0.1), (0.8, 0.05, 0.1, 0.05), (0.3, 0.3, 0.1, 0.3), (0.9, 0.05, 0.04, 0.01)]:
        difference, chance = truth[2] - truth[1], 0.0
        for table in tables:
            low, high = intervals[table]
            if low <= difference <= high:
                chance += ways[table] * math.prod(p**k for p, k in zip(truth, table, strict=True))
        covered.append(chance)
    assert min(covered) > 0.92
    assert 0.945 < np.mean(covered) < 0.985


def test_the_number_of_episodes_that_settles_it_has_the_power_it_promises() -> None:
    """Drawn from the alternative, about 80 % of as many episodes give p < 0.05."""
    found = PairedOutcomes(both=60, only_a=10, only_b=25, neither=5)
    needed = found.episodes_for(found.difference)
    assert needed is not None
    draws = np.random.default_rng(0).multinomial(needed, [0.6, 0.1, 0.25, 0.05], 400)
    wins = [PairedOutcomes(both=b, only_a=a, only_b=c, neither=d).settled for b, a, c, d in draws.tolist()]
    assert 0.7 < np.mean(wins) < 0.88
    assert found.episodes_for(0.0) is None
    smaller, larger = found.episodes_for(0.05), found.episodes_for(0.2)
    assert (smaller or 0) > needed > (larger or 10**9)
