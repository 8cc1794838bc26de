"""The expert in LIBERO itself: it succeeds, is clumsy on purpose, and refuses what it cannot do."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from libero_here import needs_libero

pytestmark = [needs_libero, pytest.mark.process, pytest.mark.slow]


def run(program: str) -> str:
    """LIBERO warns while it is imported, so it lives in a process of its own."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_it_puts_the_bowl_on_the_plate_whatever_goes_wrong_and_again_in_the_same_way() -> None:
    run(
        """
        import numpy as np
        from pi05.sim.config import DemonstrationChoice
        from pi05.sim.environments import expert_maker
        from pi05.sim.episodes import attempt

        task = "put_the_bowl_on_the_plate"
        environment, expert = expert_maker(DemonstrationChoice(env="libero", suite="libero_goal", tasks=(task,)))()
        shown = attempt(environment, expert, 3, task, look=False)
        assert shown.success
        labels = np.stack([step.action for step in shown.steps])
        executed = np.stack([step.executed for step in shown.steps])
        assert labels.dtype == executed.dtype == np.float32
        assert np.abs(labels).max() <= 1 and np.abs(executed).max() <= 1
        assert not labels[:, 3:5].any() and (labels != executed).any()
        assert set(labels[:, 6]) == {-1, 1}
        again = attempt(environment, expert, 3, task, look=False)
        np.testing.assert_array_equal(executed, [step.executed for step in again.steps])
        environment.close()
        """
    )


def test_tasks_that_it_cannot_do_are_refused_by_name() -> None:
    said = run(
        """
        from pi05.errors import ConfigError
        from pi05.sim.config import DemonstrationChoice
        from pi05.sim.environments import expert_maker

        for suite in ("libero_object", "libero_spatial"):
            expert_maker(DemonstrationChoice(env="libero", suite=suite))()[0].close()
        try:
            expert_maker(DemonstrationChoice(env="libero", suite="libero_goal"))()
        except ConfigError as error:
            print(error.render())
        """
    )
    assert "there is no scripted expert for some of these tasks" in said
    assert "open_the_middle_drawer_of_the_cabinet" in said
    assert "turn_on_the_stove" in said
    remedy = said.partition("to do:  --tasks=")[2]
    assert "put_the_bowl_on_the_plate" in remedy
    assert "drawer" not in remedy
