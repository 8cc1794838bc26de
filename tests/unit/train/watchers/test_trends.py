"""What a run's length tells: the error against the loss, the rate against the plan, the average against the run."""

from __future__ import annotations

import pytest

from pi05.train.optim.adamw import Schedule
from pi05.train.watchers.trends import Trend, faster_average, judge_average, judge_rate, start_share


def trend(errors: list[float], losses: list[float]) -> Trend:
    found = Trend()
    for number, (score, loss) in enumerate(zip(errors, losses, strict=True), 1):
        found.add_losses([loss - 0.01, loss + 0.01])
        found.measured(100 * number, score)
    return found


FALLING = [0.5, 0.4, 0.3, 0.2, 0.15]


def test_an_error_that_rises_while_the_loss_falls_is_told_with_the_best_step() -> None:
    (finding,) = trend([0.6, 0.40, 0.45, 0.47, 0.50], FALLING).judge()
    assert finding.name == "held-out.rising"
    assert "from 0.400 (step 200) to 0.500, while the training loss fell from 0.4 to 0.15" in finding.text
    assert "checkpoints/best (step 200)" in finding.remedy


@pytest.mark.parametrize(
    ("errors", "losses"),
    [
        ([0.6, 0.5, 0.45, 0.42, 0.40], FALLING),  # it falls
        ([0.6, 0.40, 0.41, 0.40, 0.41], FALLING),  # it stays
        ([0.6, 0.40, 0.45, 0.47, 0.41], FALLING),  # it came back
        ([0.6, 0.40, 0.45, 0.47, 0.50], FALLING[::-1]),  # the loss rises, too: another trouble
        ([0.40, 0.5, 0.6], FALLING[:3]),  # two measurements tell nothing
    ],
)
def test_sound_runs_are_told_nothing(errors: list[float], losses: list[float]) -> None:
    assert list(trend(errors, losses).judge()) == []


PLAN = Schedule(peak=1e-3, warmup_steps=10, decay_steps=100, end=1e-4)


def test_steps_at_the_planned_rate_are_told_nothing() -> None:
    rates = [PLAN.rate(step) for step in range(100)]
    assert not [finding for step, rate in enumerate(rates, 1) for finding in judge_rate(step, rate, rate)]


def test_a_step_at_another_rate_than_planned_is_an_error() -> None:
    (finding,) = judge_rate(50, PLAN.rate(98), PLAN.rate(49))  # a scheduler that was stepped twice per update
    assert (finding.name, finding.status) == ("learning-rate.off-plan", "error")


def test_an_average_that_is_slow_now_and_not_at_the_end() -> None:
    assert list(judge_average(0.999, 1_000, 30_000)) == []


def test_an_average_slower_than_the_run_is_told() -> None:
    (finding,) = judge_average(0.999999, 1_000, 2_000)
    assert "100% are the weights at the start" in finding.text
    assert "--ema.decay=0.9985 or lower leaves 5 %" in finding.remedy
    assert start_share(0.99, 2_000) is None
    assert faster_average(3) == "--ema.decay=0.25 or lower leaves 5 %, --ema.enable=false none"
