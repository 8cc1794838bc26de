"""Which task and seed the n-th episode has, and how an expert carries one out.

Leaves out what is done with it: `collect.py` writes it down, a policy's rollout (`eval/rollout.py`) only counts like
this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from pi05.errors import EvaluationError
from pi05.sim.protocol import Environment, Expert, Observation

DISTURBED_SHARE = 0.5


def nth_episode(tasks: Sequence[str], index: int) -> tuple[str | None, int]:
    """Return the task of the episode, and how far its seed lies behind the first one.

    Tasks take turns, and each goes through all seeds; without tasks every episode has the next seed.
    """
    if not tasks:
        return None, index
    return tasks[index % len(tasks)], index // len(tasks)


def demonstrate(
    environment: Environment, expert: Expert, seed: int, task: str | None = None
) -> Iterator[tuple[Observation, Float[np.ndarray, " n"]]]:
    """Yield each step of an episode, before it is carried out: what is seen, and what the expert wants.

    Half of the commands are disturbed on their way to the robot, by an amount that follows from the seed. Raises
    EvaluationError when the episode ends without success.
    """
    environment.reset(seed, task)
    expert.reset()
    generator, spread = np.random.default_rng((seed, 1)), np.asarray(expert.disturbance)
    moved = spread > 0
    done = success = False
    while not done:
        observation, action = environment.observe(), expert.act()
        yield observation, action
        executed = action.copy()
        if generator.random() < DISTURBED_SHARE:
            executed[moved] += generator.normal(0, spread[moved])
        done, success = environment.step(executed)
    if not success:
        raise EvaluationError(
            "the scripted expert failed its own task",
            wanted=f"success within {environment.max_steps} steps",
            found=f"none: {observation['task']!r}, seed {seed}",
            remedy="report this: the simulator and its expert disagree",
        )
