"""The gripper: which dimension it is, what its values are, and whether every episode means the same by them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from pi05.check.numbers.measure import Dimension, Measured
from pi05.check.numbers.signals import correlation
from pi05.check.structure import named
from pi05.data.lerobot.files import excluding
from pi05.finding import Finding, note, warning

_NAME = re.compile(r"gripper|claw|\bjaw|_jaw|opening|grasp(?!ing_force)", re.I)
SCALES = (100.0, 255.0, 1000.0)
"""Factors between the scales in which grippers are told: a share, per cent, a byte, millimetres."""
NEAR = 0.25
"""How far from such a factor, as a share of it, the spans of two episodes may be apart."""
USED = 0.2
"""Share of its widest span that a gripper moves by in an episode that uses it."""
SURE = 0.5
"""Correlation with the measured opening from which on its sign counts."""


def is_gripper(name: str) -> bool:
    """Return whether a dimension is a gripper's by its name."""
    return _NAME.search(name) is not None


def judge_gripper(measured: Measured) -> Iterator[Finding]:
    """Yield the gripper's dimensions with their values, and episodes that use another sign or scale."""
    commands = [d for d in measured.of("action") if is_gripper(d.name)]
    openings = [d for d in measured.of("state") if is_gripper(d.name)]
    for command in commands:
        measured_by = _partner(command, openings)
        signs = None if measured_by is None else _signs(measured, command, measured_by)
        yield _told(command, measured_by, signs)
        if signs is not None and (signs > SURE).any() and (signs < -SURE).any():
            yield _sign(measured, command, signs)
    for command in commands:
        yield from _scale(measured, command)


def _partner(command: Dimension, openings: list[Dimension]) -> Dimension | None:
    """Return the state that measures a gripper: that of its name, or the only one there is."""
    same = [d for d in openings if d.name.lower() == command.name.lower()]
    left = [d for d in openings if ("left" in d.name.lower()) == ("left" in command.name.lower())]
    return next(iter(same or left or openings), None)


def _signs(measured: Measured, command: Dimension, opening: Dimension) -> np.ndarray:
    """Return the correlation of command and opening in each episode; 0 where the gripper is not used."""
    signals = measured.signals
    action, state = signals.signal("action", command.number).values, signals.signal("state", opening.number).values
    bounds = zip(signals.starts.tolist(), signals.lengths.tolist(), strict=True)
    parts = [slice(start, start + length) for start, length in bounds]
    used = (command.spans > USED * command.spans.max()) & (opening.spans > USED * opening.spans.max())
    return np.array([correlation(action[p], state[p]) if own else 0.0 for p, own in zip(parts, used, strict=True)])


def _told(command: Dimension, opening: Dimension | None, signs: np.ndarray | None) -> Finding:
    text = f"gripper: action {command.name}, {command.low:.4g} to {command.high:.4g}"
    text += ", two or a few values" if command.is_switch else ""
    sign = None if signs is None or not signs.any() else float(np.median(signs[signs != 0]))
    if opening is not None and sign is not None:
        way = "grows with" if sign > SURE else "falls with" if sign < -SURE else "does not follow"
        text += f"; the measured {opening.name} ({opening.low:.4g} to {opening.high:.4g}) {way} it"
    return note(
        "numbers.gripper",
        text,
        "learns these values; the robot's driver must mean the same by them",
        numbers={"dimension": command.name, "low": command.low, "high": command.high, "sign": sign},
    )


def _sign(measured: Measured, command: Dimension, signs: np.ndarray) -> Finding:
    positive, negative = signs > SURE, signs < -SURE
    fewer = positive if positive.sum() <= negative.sum() else negative
    episodes = [measured.signals.episodes[number] for number in np.flatnonzero(fewer).tolist()]
    return warning(
        "numbers.gripper_sign",
        f"the gripper's command {command.name} opens it in some episodes and closes it in others: {named(episodes)} "
        f"have the other sign than the rest",
        "learns to open and to close at the same place",
        f"turn the sign in these episodes, or {excluding(*episodes[:50])}",
        {"dimension": command.name, "episodes": episodes, "correlations": signs.tolist()},
    )


def _scale(measured: Measured, gripper: Dimension) -> Iterator[Finding]:
    """Yield a gripper whose spans in two groups of episodes differ by a factor between usual scales."""
    spans = gripper.spans
    usual = float(np.median(spans[spans > 0])) if (spans > 0).any() else 1.0
    ratios = np.maximum(spans, usual) / np.maximum(np.minimum(spans, usual), 1e-30)
    odd = np.any([np.abs(ratios / factor - 1) < NEAR for factor in SCALES], axis=0) & (spans > 0)
    if odd.any():
        episodes = [measured.signals.episodes[number] for number in np.flatnonzero(odd).tolist()]
        yield warning(
            "numbers.gripper_scale",
            f"{gripper.label} spans {usual:.3g} in most episodes and {spans[odd].min():.3g} to {spans[odd].max():.3g} "
            f"in {named(episodes)}: another scale?",
            "takes the larger scale as the range, in which the gripper of the other episodes never moves",
            f"bring all episodes to one scale, or {excluding(*episodes[:50])}",
            {"dimension": gripper.label, "episodes": episodes, "usual": usual},
        )
