from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi05.eval.episode import EpisodeResult
from pi05.eval.result import EvalResult, SuccessRate, wilson_interval
from pi05.machine import machine_info


def episode(index: int, outcome: str, instruction: str = "a", swapped: bool | None = None) -> EpisodeResult:
    asked = instruction if swapped is None else "something else"
    error = "step 3: FloatingPointError: no" if outcome == "error" else None
    return EpisodeResult(
        index=index,
        seed=100 + index,
        instruction=instruction,
        asked=asked,
        outcome=outcome,  # type: ignore[arg-type]
        steps=9,
        swapped_success=swapped,
        error=error,
    )


def result(*episodes: EpisodeResult) -> EvalResult:
    environment = {"name": "tabletop", "family": "demo", "fps": 10.0, "max_steps": 60}
    return EvalResult(
        config={"seed": 0},
        policy={"path": "run"},
        environment=environment,
        episodes=episodes,
        machine=machine_info(),
        date="2025-11-22T12:00:00+00:00",
        wall_s=1.0,
        flagged=["state dimension 0 is 9"],
    )


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (8, 10, 0.4902, 0.9433), (50, 50, 0.9287, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_equals_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_solves_the_score_equation(counts: tuple[int, int]) -> None:
    """Its ends are the p at which (rate - p)² = z² p (1 - p) / n."""
    successes, n = counts
    rate, z2 = successes / n, 1.959964**2
    roots = sorted(np.roots([1 + z2 / n, -2 * rate - z2 / n, rate**2]).real.clip(0, 1))
    assert wilson_interval(successes, n) == pytest.approx(tuple(roots), abs=1e-6)


def test_a_rate_without_trials_has_no_value() -> None:
    rate = SuccessRate(successes=0, trials=0)
    assert rate.value is None
    assert rate.interval == (0.0, 1.0)
    assert "no episode" in rate.render()


def test_simulator_exceptions_are_in_no_rate() -> None:
    outcome = result(episode(0, "success"), episode(1, "error"), episode(2, "failure", "b"), episode(3, "error", "c"))
    assert (outcome.success.successes, outcome.success.trials) == (1, 2)
    assert list(outcome.by_instruction) == ["a", "b"]
    assert outcome.by_instruction["a"] == SuccessRate(successes=1, trials=1)
    text = outcome.render()
    assert "1/2 = 50.0%" in text
    assert "simulator exceptions           2 (not in the rates)" in text
    assert "seeds 100 to 103" in text
    assert "warning: state dimension 0 is 9" in text


def test_swapped_success_is_told_apart() -> None:
    outcome = result(
        episode(0, "failure", swapped=True), episode(1, "success", swapped=False), episode(2, "failure", swapped=True)
    )
    assert outcome.success == SuccessRate(successes=1, trials=3)
    assert outcome.swapped_success == SuccessRate(successes=2, trials=3)
    assert "original goal   1/3" in outcome.render()
    assert result(episode(0, "success")).swapped_success is None


def test_seeds_with_gaps_and_many_instructions_are_not_spelled_out() -> None:
    episodes = [episode(i, "success", f"task {i}") for i in (*range(12), 50)]
    text = result(*episodes).render()
    assert "seeds 100 and following" in text
    assert "task 3" not in text
    assert "task 3" in result(*episodes[:12]).render()


def test_plain_data_holds_rates_and_episodes() -> None:
    plain = json.loads(json.dumps(result(episode(0, "success"), episode(1, "error")).to_dict(), allow_nan=False))
    assert plain["success"]["rate"] == 1.0
    assert plain["success"]["trials"] == 1
    assert plain["simulator_exceptions"] == 1
    assert plain["swapped_success"] is None
    assert [e["seed"] for e in plain["episodes"]] == [100, 101]
    assert plain["episodes"][1]["error"].startswith("step 3")
    assert plain["machine"]["cpu_cores"] >= 1
