"""State and action of the same joint: what the action is, and whether it belongs to the frame that it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pi05.check.numbers.signals import Signals, correlation
from pi05.check.structure import MOST_NAMED
from pi05.finding import Finding, ok, warning

MOST_FRAMES = 200_000
"""Frames, of whole episodes from the first on, that correlations are taken over."""
ABSOLUTE = 0.95
"""std(action - state) / std(action) up to which actions are positions like the state: sound ones 0.22 to 0.82."""
LAG = 0.5
"""Correlation of action - state with the movement that follows, at the best shift: sound 0.89 to 0.95; shifted by five
frames 0.37."""
SHIFTS = range(6)
"""Frames that a robot may take to answer."""
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
    ratio: float
    """std(action - state) / std(action)."""
    correlation: float
    """Of action and state."""
    scale: float
    """std(action) / std(state)."""
    reach: float
    """Of the state."""
    offsets: Float[np.ndarray, " E"]
    """Median of action - state in each episode."""
    answers: tuple[float, ...]
    """Correlation of action - state with the state's step, for each of `SHIFTS` frames later."""
    equal: bool
    """Whether action and state are the same number in every frame."""


def measure_pairs(signals: Signals) -> list[Pair]:
    """Measure the joints that state and action have in common and that move in both; switches are left out."""
    whole = np.searchsorted(np.cumsum(signals.lengths), min(MOST_FRAMES, len(signals)), side="left") + 1
    frames = int(signals.lengths[:whole].sum())
    found = []
    for state_number, action_number in signals.pairs:
        state, action = signals.signal("state", state_number), signals.signal("action", action_number)
        if state.is_constant or action.is_constant or state.is_switch or action.is_switch:
            continue
        difference = action.values - state.values
        bounds = zip(signals.starts.tolist(), signals.lengths.tolist(), strict=True)
        found.append(
            Pair(
                name=action.name,
                ratio=float(np.std(difference)) / float(np.std(action.values)),
                correlation=correlation(action.values, state.values),
                scale=float(np.std(action.values)) / float(np.std(state.values)),
                reach=state.reach,
                offsets=np.array([np.median(difference[start : start + length]) for start, length in bounds]),
                answers=_answers(signals, state.values[:frames], difference[:frames]),
                equal=bool((action.values == state.values).all()),
            )
        )
    return found


def _answers(signals: Signals, state: np.ndarray, difference: np.ndarray) -> tuple[float, ...]:
    """Return how well the difference of action and state tells the state's step so many frames later."""
    steps, inside = np.diff(state), signals.inside[: len(state) - 1]
    ends = np.cumsum(signals.lengths)
    left = np.repeat(ends, signals.lengths)[: len(state)] - np.arange(len(state))
    found = []
    for shift in SHIFTS:
        frames = np.flatnonzero(left[: len(steps)] > shift + 1)
        frames = frames[frames + shift < len(steps)]
        frames = frames[inside[frames + shift]]
        found.append(correlation(difference[frames], steps[frames + shift]) if len(frames) > 1 else 0.0)
    return tuple(found)


def is_absolute(pairs: list[Pair]) -> bool:
    """Return whether actions are positions like the state, by most of the joints."""
    return bool(pairs) and float(np.median([pair.ratio for pair in pairs])) <= ABSOLUTE


def judge_pairs(pairs: list[Pair], frames: int) -> Iterator[Finding]:
    """Yield what the action is, whether it is the state itself, and whether it lags behind."""
    if not pairs or frames < FEWEST_FRAMES:
        return
    ratio = float(np.median([pair.ratio for pair in pairs]))
    follows = float(np.median([pair.correlation for pair in pairs]))
    kind = "positions like the state" if is_absolute(pairs) else "something else than positions: steps, velocities"
    told = ok(
        "numbers.action_kind",
        f"actions are {kind} (std of action - state over std of action: {ratio:.2f}; correlation {follows:.2f})",
    )
    answers = np.median([pair.answers for pair in pairs], axis=0)
    best = int(np.argmax(answers))
    facts = {"ratio": ratio, "correlation": follows, "answers_after": best, "answers": answers.tolist()}
    yield Finding(told.name, told.status, told.text, numbers=facts)
    if all(pair.equal for pair in pairs):
        yield warning(
            "numbers.action_is_state",
            f"action and state are the same numbers in all {len(pairs)} joints that both have",
            "learns to command where the robot is, not where it goes: the first action of each chunk is to stay",
            "record the commands, or shift the action by one frame (the next state is what was reached)",
            {"dimensions": [pair.name for pair in pairs]},
        )
        return
    if is_absolute(pairs) and answers[best] < LAG:
        yield warning(
            "numbers.lag",
            f"the actions tell little of the movement that follows: correlation {answers[best]:.2f} at best, "
            f"{best} frames later; in sound recordings it is above {LAG:.1f}",
            "learns commands that belong to other frames; state and action were recorded with a shift between them, or "
            "their dimensions are in another order",
            "compare the order of the dimensions, and the times at which the recorder takes state and action",
            {"answers": answers.tolist(), "shifts": list(SHIFTS)},
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
