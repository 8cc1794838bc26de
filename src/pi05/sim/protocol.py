"""What pi05 asks of a simulated robot, of the meaning of an instruction, and of a scripted demonstrator.

An episode is named by a task and a seed. Where the seed chooses the instruction too, there are no tasks; a benchmark
has a fixed list of them, each with numbered initial states, and the seed is that number. Looking is apart from acting:
cameras are rendered by `observe` alone, so that an open-loop stretch of an action chunk costs no picture.

Leaves out the simulators themselves, which know nothing of policies, and how one is made by name (`environments.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

Observation = dict[str, Any]
"""What a policy is given: a picture under the name of each camera, `observation.state`, and the instruction as
`task`."""

# `runtime_checkable` is for the type checker of the tests, which puts every annotation into practice. `Restorable`,
# `Movable` and `Moving` are the only ones that the package asks an object about.


@runtime_checkable
class Goal(Protocol):
    """What an instruction asks for, in one layout of one environment."""

    @property
    def instruction(self) -> str:
        """The goal in words."""
        ...

    def implies(self, other: Goal) -> bool:
        """Tell whether `other` is reached as well, at the end or on the way, by whoever reaches this goal."""
        ...


@runtime_checkable
class Environment(Protocol):
    """One simulated robot with one episode at a time. The same task, seed and actions give the same episode."""

    @property
    def fps(self) -> float:
        """Control steps per second."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is over."""
        ...

    @property
    def robot_type(self) -> str:
        """What data sets call the robot."""
        ...

    @property
    def cameras(self) -> Mapping[str, tuple[int, int]]:
        """Height and width (px) of each camera, by its name in an observation: `observation.images.…`."""
        ...

    @property
    def state_names(self) -> Sequence[str]:
        """Names of the numbers in `observation.state`."""
        ...

    @property
    def action_names(self) -> Sequence[str]:
        """Names of the action dimensions."""
        ...

    @property
    def tasks(self) -> Sequence[str]:
        """Names of the tasks that episodes are asked for by; empty where the seed chooses the instruction."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a report has to say of this simulator, such as that its version is not the usual one."""
        ...

    @property
    def goals(self) -> Sequence[Goal]:
        """Every goal that makes sense in the present layout, the episode's own among them; empty before `reset`."""
        ...

    def reset(self, seed: int, task: str | None = None) -> None:
        """Begin the episode of this task and seed. `task` is one of `tasks`; without it the seed chooses."""
        ...

    def observe(self) -> Observation:
        """Render the cameras and return what the robot sees, feels and is told, in arrays that stay as they are."""
        ...

    def step(self, action: Float[np.ndarray, " n"]) -> tuple[bool, bool]:
        """Carry out one action; return whether the episode is over, and whether its own goal is reached."""
        ...

    def check(self, instruction: str) -> bool:
        """Tell whether the scene fulfils `instruction`, that of one of `goals`, now."""
        ...

    def render(self, size: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return the scene as a picture for people."""
        ...

    def close(self) -> None:
        """Give back what the simulator holds, such as windows and processes; nothing is asked of it afterwards."""
        ...


@runtime_checkable
class Expert(Protocol):
    """A scripted demonstrator, made for one environment and in sight of everything in it."""

    def reset(self) -> None:
        """Begin a new episode, after the environment has."""
        ...

    def act(self) -> Float[np.ndarray, " n"]:
        """Return the command for the present state."""
        ...

    def disturb(self, action: Float[np.ndarray, " n"], generator: np.random.Generator) -> Float[np.ndarray, " n"]:
        """Return what reaches the robot instead of `action` while demonstrations are collected.

        Called once per step, after `act`. So demonstrations show how to come back from where a policy might drift.
        """
        ...


@runtime_checkable
class Movable(Protocol):
    """A simulator that tells which things an episode has moved, whatever it was asked for."""

    @property
    def moved(self) -> Sequence[str]:
        """Names of the things that lie elsewhere than when the episode began."""
        ...


@runtime_checkable
class Moving(Protocol):
    """A robot that is told motions instead of positions, or both."""

    @property
    def motions(self) -> Sequence[bool]:
        """Which action dimensions move as long as they are not 0."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """A simulator whose state within an episode can be told, and set again exactly.

    It is asked for where recorded actions are replayed: what a reset draws may differ between versions.
    """

    def simulator_state(self) -> Float[np.ndarray, " s"]:
        """Return the state as numbers."""
        ...

    def restore(self, state: Float[np.ndarray, " s"]) -> None:
        """Go to a state of the present episode's task."""
        ...
