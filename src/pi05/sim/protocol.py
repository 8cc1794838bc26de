"""What a rollout asks of a simulator, and the simulators by name.

Leaves out the simulators themselves (`pi05.sim`), which know nothing of policies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8


@runtime_checkable
class Environment(Protocol):
    """One simulated robot with one task at a time. Deterministic: the same seed and actions give the same episode."""

    @property
    def fps(self) -> float:
        """Control steps per second."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is over."""
        ...

    @property
    def action_names(self) -> Sequence[str]:
        """Names of the action dimensions."""
        ...

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin the episode that belongs to `seed`; return its first observation, with the instruction as `task`."""
        ...

    def step(self, action: Float[np.ndarray, " n"]) -> tuple[dict[str, Any], bool, bool]:
        """Carry out one action and return observation, whether the episode is over, whether its goal is reached."""
        ...

    def instructions(self) -> Sequence[str]:
        """Return every instruction that makes sense in the present layout."""
        ...

    def check(self, instruction: str) -> bool:
        """Tell whether the scene fulfils `instruction` now."""
        ...

    def render(self, size: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return the scene as a picture for people."""
        ...


def other_instructions(environment: Environment, instruction: str) -> list[str]:
    """Return the instructions of this layout that ask for something else than `instruction`, the episode's own.

    Left out: other words for the same goal, goals that are reached already, and goals that cannot be reached without
    reaching the own one on the way (it says "pick up the ball", they say what to do with that ball).
    """
    goals = {goal.instruction: goal for goal in getattr(environment, "goals", ())}
    own = goals.get(instruction)
    chosen = []
    for text in environment.instructions():
        if text == instruction or environment.check(text):
            continue
        if own is not None and text in goals:
            goal = goals[text]
            holding = own.target is None and own.side is None
            if goal.item == own.item and (holding or (goal.target, goal.side) == (own.target, own.side)):
                continue
        chosen.append(text)
    return sorted(chosen)


def environment_maker(name: str, family: str) -> Callable[[], Environment]:
    """Return a function that builds the named environment."""
    if name == "tabletop":
        from pi05.sim.tabletop import Tabletop

        return lambda: Tabletop(family=family)
    raise ValueError(f"no environment is called {name}")  # EvalConfig lets no other name through
