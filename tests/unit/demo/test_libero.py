"""The plan of the demonstration in LIBERO, its verdict, and which object a policy went for; without a simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pi05.demo.libero import OBJECTS, TASKS, LiberoPlan, evaluation, moved_what_was_asked, told, training, untrained
from pi05.eval.episode import EpisodeResult
from pi05.settings.schema import from_plain, to_plain
from pi05.sim.config import DemonstrationChoice

SOUP = "pick up the alphabet soup and place it in the basket"
EPISODE = EpisodeResult(index=0, seed=0, instruction="x", asked=SOUP, outcome="failure", steps=9)


@pytest.mark.parametrize(
    ("moved", "heeded"),
    [
        (("alphabet_soup_1",), True),
        (("salad_dressing_1",), False),
        (("alphabet_soup_1", "salad_dressing_1"), False),
        (("alphabet_soup_1", "basket_1"), True),
        (("basket_1",), False),
        ((), False),
        (None, False),
    ],
)
def test_only_the_thing_that_was_asked_for_has_moved(moved: tuple[str, ...] | None, heeded: bool) -> None:
    assert moved_what_was_asked(replace(EPISODE, moved=moved)) is heeded


def test_policy_and_demonstrations_run_at_one_rate_and_in_layouts_of_their_own() -> None:
    plan = LiberoPlan()
    shown = plan.demonstrations(3)
    measured = evaluation(plan, Path("run"), Path("out"), 3, 1)
    assert shown.hold == measured.hold == 2
    assert shown.tasks == measured.tasks == TASKS
    assert shown.start == "random"
    assert shown.mixed_goals
    assert len(OBJECTS) == len(set(OBJECTS)) == 3
    assert from_plain(DemonstrationChoice, to_plain(shown)) == shown, "replay makes the simulator again"


def test_the_plan_decides_the_training() -> None:
    config = training(LiberoPlan(steps=80), Path("data"), Path("run"), Path("frames"), 4, 1)
    assert (config.steps, config.save_freq, config.eval_steps, config.seed) == (80, 20, 10, 4)
    assert config.policy.n_action_steps == 5
    assert told(LiberoPlan())["tasks"] == list(TASKS)


def test_the_base_is_measured_with_the_robot_that_it_never_moved() -> None:
    config = untrained(training(LiberoPlan(), Path("data"), Path("run"), Path("frames"), 0, 1), Path("base"))
    assert (config.steps, config.ema.enable, config.output_dir) == (1, False, "base")
    assert config.learning_rate == config.decay_lr < 1e-10
    assert config.dataset.root == "data"
