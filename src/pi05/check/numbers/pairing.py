"""State and action of the same joint: are they one number, are the joints in one order?

What the actions are (targets, steps, velocities) and whether they come late is measured in `check/motion.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pi05.check.numbers.signals import Signal, Signals, correlation
from pi05.check.structure import MOST_NAMED
from pi05.finding import Finding, warning

FEWEST_FRAMES = 50
FEWEST_JOINTS = 3
MOST_COMPARED = 20_000
"""Frames that every state is compared with every action over."""
FOLLOWS, STRANGE = 0.9, 0.5
"""An action belongs to a state that it follows so closely, and not to one that it follows less than that."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """What was measured of a joint's state and action."""

    name: str
    correlation: float
    """Of action and state."""
    scale: float
    """std(action) / std(state)."""
    reach: float
    """Of the state."""
    offsets: Float[np.ndarray, " E"]
    """Median of action - state in each episode."""
    equal: bool
    """Whether action and state are the same number in every frame."""


def measure_pairs(signals: Signals) -> list[Pair]:
    """Measure the joints that state and action have in common and that move in both; switches are left out."""
    found = []
    for state_number, action_number in signals.pairs:
        state, action = signals.signal("state", state_number), signals.signal("action", action_number)
        if state.is_constant or action.is_constant or state.is_switch or action.is_switch:
            continue
        difference = action.values.astype(np.float64) - state.values
        bounds = zip(signals.starts.tolist(), signals.lengths.tolist(), strict=True)
        found.append(
            Pair(
                name=action.name,
                correlation=correlation(action.values, state.values),
                scale=_spread(action) / _spread(state),
                reach=state.reach,
                offsets=np.array([np.median(difference[start : start + length]) for start, length in bounds]),
                equal=bool((action.values == state.values).all()),
            )
        )
    return found


def _spread(signal: Signal) -> float:
    return float(np.std(signal.values, dtype=np.float64))


def judge_equality(pairs: list[Pair]) -> Iterator[Finding]:
    """Yield actions that are the state of the same frame."""
    if pairs and all(pair.equal for pair in pairs):
        yield warning(
            "numbers.action_is_state",
            f"action and state are the same numbers in all {len(pairs)} joints that both have",
            "learns to command where the robot is, not where it goes: the first action of each chunk is to stay",
            "record the commands, or shift the action by one frame (the next state is what was reached)",
            {"dimensions": [pair.name for pair in pairs]},
        )


def judge_order(signals: Signals) -> Iterator[Finding]:
    """Yield actions that follow the states of other dimensions than their own."""
    step = max(1, len(signals) // MOST_COMPARED)
    moving = [
        (a, state, action)
        for s, a in signals.pairs
        if not (state := signals.signal("state", s)).is_constant
        and not (action := signals.signal("action", a)).is_constant
    ]
    if len(moving) < FEWEST_JOINTS or len(signals) < FEWEST_FRAMES:
        return
    table = np.corrcoef(
        np.array([state.values[::step] for _, state, _ in moving], np.float64),
        np.array([action.values[::step] for _, _, action in moving], np.float64),
    )[: len(moving), len(moving) :]
    best, own = table.argmax(axis=0), np.diag(table)
    strange = [i for i in range(len(moving)) if table[best[i], i] > FOLLOWS and own[i] < STRANGE]
    if len(strange) >= len(moving) / 2:
        both = [(moving[i][2].name, moving[best[i]][1].name) for i in strange]
        told = ", ".join(f"action {action} follows state {state}" for action, state in both[:MOST_NAMED])
        yield warning(
            "numbers.order",
            f"{len(strange)} of {len(moving)} actions follow the state of another dimension than their own: {told}",
            "pairs joints that do not belong together: relative actions subtract one joint's state from the command of "
            "another",
            "bring both into one order: --dataset.state and --dataset.action join columns as they are named, or write "
            "the set anew",
            {"action": [action for action, _ in both], "state": [state for _, state in both]},
        )
