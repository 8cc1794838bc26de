"""What the actions are, told by the states: targets, steps, velocities, the state itself, or something else.

A dimension of the action is compared with the state of the same index: the one that a relative action would be taken
from. Measured values: ../shared/spec/killers_measured.md and docs/check.md. Leaves out what follows for a recipe
(`recipe.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pi05.data.lerobot.reader import Dataset

Kind = Literal["target", "state", "next_state", "step", "velocity", "other"]
TELLS: dict[Kind, str] = {
    "target": "targets in the state's own units (absolute actions)",
    "state": "the state of the same frame",
    "next_state": "the state of the next frame",
    "step": "steps: the change of the state to the next frame",
    "velocity": "velocities: the change of the state, in units per second or another scale",
    "other": "none of the states of the same index, nor their changes (another space, order or unit)",
}

NOT_A_TARGET = 1.0
"""std(a - s) / std(a): targets of sound sets have 0.22 to 0.25, permuted pairs 1.02, steps 3.5, velocities 5.3."""
FOLLOWS = 0.5
"""Correlation of a - s with the motion that follows: 0.73 to 0.95 in sound sets, -0.12 where actions come five
frames late, -0.02 for permuted pairs."""
SHIFTS = 8
"""Frames up to which action and state are shifted against each other."""
_EXACT = 1e-6
"""Of the state's spread: less is no difference."""
_MOST_EPISODES = 200
"""Episodes that are looked at, evenly spaced: enough for correlations."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How actions and states of the same index go together, over the dimensions that move; medians over these."""

    dimensions: tuple[int, ...]
    """Those that have a state of the same index and are constant in neither."""
    kind: Kind
    ratio: float
    """std(a - s) / std(a)."""
    correlation: float
    """Of a with s."""
    follows: float
    """Of a - s with the motion of the state, now or up to eight frames later, at the best shift; NaN where a = s."""
    shift: int
    """How many frames later, from -8 to 8, the state moves as the action does: negative where the action comes late."""
    apart: float
    """How far a is from s, in steps of the state: under one they belong to one frame, whatever else they do."""
    step_scale: float
    """How much the state moves in a frame for an action of 1; NaN where steps and actions do not go together."""


def measure_motion(dataset: Dataset, episodes: Sequence[int], dimensions: Sequence[int] | None = None) -> Motion | None:
    """Compare actions and states, of these dimensions or of all; None where no dimension moves in both."""
    chosen = [int(i) for i in np.unique(np.linspace(0, len(episodes) - 1, min(len(episodes), _MOST_EPISODES)).round())]
    spans = [(e.start, e.start + e.length) for e in (dataset.episodes[episodes[i]] for i in chosen) if e.length > 1]
    if not spans:
        return None
    found = []
    paired = range(min(dataset.state_dim, dataset.action_dim))
    for dimension in paired if dimensions is None else [i for i in dimensions if i in paired]:
        pairs = [
            (dataset.actions()[a:b, dimension].astype(float), dataset.states()[a:b, dimension].astype(float))
            for a, b in spans
        ]
        if min(np.ptp(np.concatenate(part)) for part in zip(*pairs, strict=True)) > 0:
            found.append((dimension, _measure(pairs)))
    if not found:
        return None
    rows = np.array([row for _, row in found])
    same, following = (bool((rows[:, i] > 0.99).all()) for i in (0, 1))
    ratio, correlation, step_fit, step_scale = (float(np.median(rows[:, i])) for i in (2, 3, 4, 5))
    follows, together = (np.median(part, axis=0) for part in np.split(rows[:, 7:], [SHIFTS + 1], axis=1))
    steps = step_fit > FOLLOWS
    kind: Kind
    if same:
        kind = "state"
    elif following:
        kind = "next_state"
    elif ratio <= NOT_A_TARGET:
        kind = "target"
    elif steps:
        kind = "step" if 0.5 < step_scale < 2 else "velocity"
    else:
        kind = "other"
    return Motion(
        dimensions=tuple(dimension for dimension, _ in found),
        kind=kind,
        ratio=ratio,
        correlation=correlation,
        follows=float("nan") if same else float(follows.max()),
        shift=int(together.argmax()) - SHIFTS,
        apart=float(np.median(rows[:, 6])),
        step_scale=step_scale if kind in ("step", "velocity") else float("nan"),
    )


Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Actions and states of one dimension, episode by episode, each as long as its episode."""


def _measure(pairs: Pairs) -> list[float]:
    """Return shares of equal frames, ratio, correlation, fit and scale of steps, distance, two curves over shifts."""
    actions, states = (np.concatenate(part) for part in zip(*pairs, strict=True))
    close = _EXACT * np.ptp(states)
    here = float(np.mean(np.abs(actions - states) <= close))
    following = float(np.mean(np.concatenate([np.abs(a[:-1] - s[1:]) <= close for a, s in pairs])))
    ratio = float(np.std(actions - states) / np.std(actions))
    fits = [_correlation(*_joined(pairs, shift, "action")) for shift in range(SHIFTS + 1)]
    best = int(np.argmax(fits))
    action, step = _joined(pairs, best, "action")
    scale = float(np.dot(action - action.mean(), step - step.mean()) / max(np.var(action) * len(action), 1e-30))
    follows = [_correlation(*_joined(pairs, shift, "distance")) for shift in range(SHIFTS + 1)]
    together = [_correlation(*_joined(pairs, shift, "change")) for shift in range(-SHIFTS, SHIFTS + 1)]
    steps = np.concatenate([np.diff(state) for _, state in pairs])
    apart = float(np.sqrt(np.mean((actions - states) ** 2) / max(float(np.mean(steps**2)), 1e-30)))
    return [here, following, ratio, _correlation(actions, states), fits[best], scale, apart, *follows, *together]


What = Literal["action", "distance", "change"]
"""The action, its distance from the state, its change to the next frame."""


def _joined(pairs: Pairs, shift: int, what: What) -> tuple[np.ndarray, np.ndarray]:
    """Return that of the action, and the state's step `shift` frames later."""
    parts = list(_shifted(pairs, shift, what))
    if not parts:
        return np.zeros(1), np.zeros(1)
    first, second = zip(*parts, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _shifted(pairs: Pairs, shift: int, what: What) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for action, state in pairs:
        steps = np.diff(state)
        start, stop = max(0, -shift), len(steps) - max(0, shift)
        if stop > start:
            value = {"action": action, "distance": action - state, "change": np.diff(action)}[what]
            yield value[start:stop], steps[start + shift : stop + shift]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two rows; 0 where one of them is constant."""
    first, second = first - first.mean(), second - second.mean()
    size = np.sqrt(np.dot(first, first) * np.dot(second, second))
    return float(np.dot(first, second) / size) if size > 1e-30 else 0.0
