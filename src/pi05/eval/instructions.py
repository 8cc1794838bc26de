"""Which other instruction a policy may be given in a layout, to see whether it listens (`--swap_instruction`)."""

from __future__ import annotations

from pi05.sim.protocol import Environment


def other_instructions(environment: Environment, instruction: str) -> list[str]:
    """Return the instructions of this layout that ask for something else than `instruction`, the episode's own.

    Left out are goals that are reached already, and goals that imply the own one. Those are the same in other words, or
    reach it on the way: it says "pick up the ball", they say what to do with that ball.
    """
    own = next(goal for goal in environment.goals if goal.instruction == instruction)
    others = (goal for goal in environment.goals if not goal.implies(own) and not environment.check(goal.instruction))
    return sorted(goal.instruction for goal in others)
