"""Which task and seed the n-th episode has, and how an expert carries one out.

Leaves out what is done with it: `collect.py` and `collect_tasks.py` write it down, a policy's rollout
(`eval/rollout.py`) only counts like this.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pi05.errors import EvaluationError
from pi05.sim.protocol import Environment, Expert, Observation, Restorable

DISTURBED_SHARE = 0.5


class Step(NamedTuple):
    """One step of an expert, before it is carried out."""

    observation: Observation
    action: Float[np.ndarray, " n"]
    """What the expert wants: the label."""
    executed: Float[np.ndarray, " n"]
    """What the robot gets: the label, or what a disturbance makes of it."""


@dataclass(frozen=True)
class Attempt:
    """One episode of an expert, whatever came of it."""

    task: str | None
    seed: int
    start: Float[np.ndarray, " s"] | None
    """The simulator's state after the reset, where the simulator tells it."""
    steps: list[Step]
    success: bool


def nth_episode(tasks: Sequence[str], index: int) -> tuple[str | None, int]:
    """Return the task of the episode, and how far its seed lies behind the first one.

    Tasks take turns, and each goes through all seeds; without tasks every episode has the next seed.
    """
    if not tasks:
        return None, index
    return tasks[index % len(tasks)], index // len(tasks)


def shift_half(
    action: Float[np.ndarray, " n"], spread: Sequence[float], generator: np.random.Generator
) -> Float[np.ndarray, " n"]:
    """Return the command as it reaches the robot: half of all commands are shifted at random.

    `spread` is the standard deviation of each dimension, in its own unit; 0 leaves the dimension alone.
    """
    deviations = np.asarray(spread)
    moved = deviations > 0
    executed = action.copy()
    if generator.random() < DISTURBED_SHARE:
        executed[moved] += generator.normal(0, deviations[moved])
    return executed


def attempt(environment: Environment, expert: Expert, seed: int, task: str | None = None, look: bool = True) -> Attempt:
    """Let the expert carry out one episode, with disturbances that follow from the seed.

    Without `look` nothing is rendered, and the observations are empty.
    """
    environment.reset(seed, task)
    start = environment.simulator_state() if isinstance(environment, Restorable) else None
    acting, steps = _act(environment, expert, seed, look), []
    while True:
        try:
            steps.append(next(acting))
        except StopIteration as end:
            return Attempt(task, seed, start, steps, bool(end.value))


def demonstrate(environment: Environment, expert: Expert, seed: int, task: str | None = None) -> Iterator[Step]:
    """Yield each step of an episode, before it is carried out.

    Raises EvaluationError when the episode ends without success.
    """
    environment.reset(seed, task)
    success = yield from _act(environment, expert, seed, True)
    if not success:
        raise EvaluationError(
            "the scripted expert failed its own task",
            wanted=f"success within {environment.max_steps} steps",
            found=f"none: {environment.observe()['task']!r}, seed {seed}",
            remedy="report this: the simulator and its expert disagree",
        )


def _act(environment: Environment, expert: Expert, seed: int, look: bool) -> Generator[Step, None, bool]:
    """Yield the steps after a reset, each before it is carried out; return whether they succeeded."""
    expert.reset()
    generator = np.random.default_rng((seed, 1))
    done = success = False
    while not done:
        observation, action = environment.observe() if look else {}, expert.act()
        executed = expert.disturb(action, generator)
        yield Step(observation, action, executed)
        done, success = environment.step(executed)
    return success
