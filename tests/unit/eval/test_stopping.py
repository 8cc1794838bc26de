from __future__ import annotations

import pytest

from pi05.eval.episode import EpisodeResult, Outcome
from pi05.eval.result import wilson_interval
from pi05.eval.rules import BLOCK
from pi05.eval.stopping import coverage, half_width, narrow_enough


def ended(successes: int, failures: int, errors: int = 0) -> list[EpisodeResult]:
    outcomes: list[Outcome] = ["success"] * successes + ["failure"] * failures + ["error"] * errors
    return [
        EpisodeResult(index=i, seed=i, instruction="a", asked="a", outcome=outcome, steps=1)
        for i, outcome in enumerate(outcomes)
    ]


def test_the_width_decides_and_errors_do_not_count() -> None:
    low, high = wilson_interval(190, 200)
    assert half_width(190, 200) == pytest.approx((high - low) / 2)
    assert narrow_enough(ended(190, 10), 0.05)
    assert not narrow_enough(ended(100, 100), 0.05)
    assert not narrow_enough(ended(49, 1), 0.05)
    assert not narrow_enough(ended(10, 0, errors=500), 0.05)
    assert not narrow_enough([], 0.05)


@pytest.mark.parametrize(("rate", "least", "episodes"), [(0.5, 0.94, 400), (0.8, 0.93, 263), (0.95, 0.92, 108)])
def test_the_interval_at_the_stop_still_covers_the_rate(rate: float, least: float, episodes: float) -> None:
    """Exact: what docs/evaluation.md says of looking every 50 episodes with half a width of 0.05."""
    covered, mean = coverage(rate, 0.05, BLOCK)
    assert least < covered < 0.98
    assert mean == pytest.approx(episodes, rel=0.02)
