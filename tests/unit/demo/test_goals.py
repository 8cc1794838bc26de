from __future__ import annotations

import pytest

from pi05.demo.goals import SuccessGoal
from pi05.eval.result import SuccessRate


@pytest.mark.parametrize(
    ("successes", "at_least", "strict", "limit", "met"),
    [
        (45, True, False, 0.9, True),
        (44, True, False, 0.9, False),
        (10, False, False, 0.2, True),
        (11, False, False, 0.2, False),
        (10, False, True, 0.2, False),
        (9, False, True, 0.2, True),
    ],
)
def test_goals_are_judged_at_their_limit(successes: int, at_least: bool, strict: bool, limit: float, met: bool) -> None:
    goal = SuccessGoal(
        name="g", rate=SuccessRate(successes=successes, trials=50), limit=limit, at_least=at_least, strict=strict
    )
    assert goal.met is met
    assert goal.to_dict()["met"] is met


def test_a_goal_without_episodes_is_not_met() -> None:
    assert not SuccessGoal(name="g", rate=SuccessRate(successes=0, trials=0), limit=0.2, at_least=False).met
    assert (
        SuccessGoal(name="g", rate=SuccessRate(successes=0, trials=0), limit=0.2, at_least=False, strict=True).wanted
        == "under 20%"
    )
