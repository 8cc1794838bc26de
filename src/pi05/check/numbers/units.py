"""Units, calibration and angles: is a number the same thing in every episode, and in state and action?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pi05.check.numbers.gripper import is_gripper
from pi05.check.numbers.measure import Dimension, Measured
from pi05.check.numbers.pairing import Pair
from pi05.check.structure import MOST_NAMED, named
from pi05.check.subject import Subject
from pi05.data.lerobot.files import excluding
from pi05.finding import Finding, error, warning

APART = 15.0
"""Factor between two groups of episodes from which on they are in other units. In size sound sets reach 1.6 and degrees
in half of the episodes 27 to 48; in reach an episode that hardly moves is 36 times smaller, and of the same size."""
FEWEST_DIMENSIONS = 2
TINY = 1e-9
GAP, GAP_TIMES = 0.1, 3.0
"""Offsets of action to state fall into two groups where these lie this share of the reach apart, and so many times as
far as the episodes of one group."""
FEWEST_EPISODES = 4
SAME_UNIT = 1.25
"""std(action) / std(state), or its inverse, up to which both are in one unit; grippers have units of their own."""
DEGREES = 180 / math.pi
SCALE_TOLERANCE = 0.1


def judge_units(measured: Measured) -> Iterator[Finding]:
    """Yield sets in which some episodes hold other units than the others.

    Then the size of an episode's states (their mean and half of their reach) falls into two groups, in most of the
    dimensions at once, and the states of these groups reach as differently far. An episode that stands still reaches
    less far, and is as large as the others.
    """
    moving = [d for d in measured.of("state") if not d.is_constant and float(np.median(d.spans)) > 0]
    if len(moving) < FEWEST_DIMENSIONS or len(measured.signals.episodes) < 2:
        return
    spans = np.median([np.log(np.maximum(d.spans, TINY)) for d in moving], axis=0)
    sizes = np.median([np.log(np.maximum(np.abs(d.means) + d.spans / 2, TINY)) for d in moving], axis=0)
    large, apart = _two_groups(sizes)
    factor = float(np.exp(np.median(spans[large]) - np.median(spans[~large])))
    if apart < APART or factor < APART:
        return
    smaller = large if large.sum() <= (~large).sum() else ~large
    episodes = [measured.signals.episodes[number] for number in np.flatnonzero(smaller).tolist()]
    worst = max(moving, key=lambda d: float(np.ptp(d.means)))
    yield error(
        "numbers.units",
        f"the states of {named(episodes)} of {len(measured.signals.episodes)} episodes are in other units than the "
        f"rest: their movements differ {factor:.0f} times in size (means of {worst.name}: {worst.means.min():.4g} to "
        f"{worst.means.max():.4g})",
        "squeezes the movements of all episodes into a corner of the normalised range",
        f"convert these episodes (degrees to radians?), or {excluding(*episodes[:50])}",
        {"episodes": episodes, "factor": factor},
    )


def _two_groups(sizes: np.ndarray) -> tuple[np.ndarray, float]:
    """Return which logarithms lie above the widest gap between two of them, and the factor across it."""
    ordered = np.sort(sizes)
    at = int(np.argmax(np.diff(ordered)))
    return sizes > ordered[at], float(np.exp(min(ordered[at + 1] - ordered[at], 50.0)))


def judge_scale(pairs: list[Pair]) -> Iterator[Finding]:
    """Yield state and action that move alike in different units."""
    scales = [pair.scale for pair in pairs if pair.correlation > 0.9]
    if not scales:
        return
    middle = float(np.median(scales))
    for factor, told in ((DEGREES, "degrees in the action, radians in the state"), (1 / DEGREES, "the reverse")):
        if abs(middle / factor - 1) < SCALE_TOLERANCE:
            yield warning(
                "numbers.action_units",
                f"actions move {middle:.3g} times as far as the state they follow: {told}?",
                "subtracts one unit from the other with relative actions",
                "convert one of the two, or train with absolute actions (--policy.use_relative_actions=false)",
                {"scale": middle},
            )


def judge_calibration(pairs: list[Pair], episodes: list[int]) -> Iterator[Finding]:
    """Yield joints whose action lies off the state by one amount in some episodes and by another in the rest."""
    found: dict[str, tuple[float, list[int]]] = {}
    for pair in pairs:
        one_unit = 1 / SAME_UNIT < pair.scale < SAME_UNIT and not is_gripper(pair.name)
        if len(episodes) < FEWEST_EPISODES or pair.correlation < 0.9 or not one_unit:
            continue
        order = np.argsort(pair.offsets)
        ordered = pair.offsets[order]
        gaps = np.diff(ordered)
        at = int(np.argmax(gaps))
        within = max(float(ordered[at] - ordered[0]), float(ordered[-1] - ordered[at + 1]))
        if gaps[at] > GAP * pair.reach and gaps[at] > GAP_TIMES * within:
            fewer = order[: at + 1] if at + 1 <= len(order) / 2 else order[at + 1 :]
            found[pair.name] = (float(gaps[at]), sorted(episodes[number] for number in fewer.tolist()))
    if found:
        told = ", ".join(f"{name} by {gap:.3g}" for name, (gap, _) in list(found.items())[:MOST_NAMED])
        shifted = sorted({episode for _, own in found.values() for episode in own})
        yield warning(
            "numbers.calibration",
            f"between action and state the offset changes from episode to episode ({told}); other than the rest are "
            f"{named(shifted)} of {len(episodes)} episodes; the arm was calibrated anew?",
            "learns two answers to the same state",
            f"correct the offset in these episodes, or {excluding(*shifted[:50])}",
            {"episodes": shifted, "offsets": {name: gap for name, (gap, _) in found.items()}},
        )


def judge_angles(subject: Subject, measured: Measured) -> Iterator[Finding]:
    """Yield angles that leap around their circle; an error where actions are subtracted from such a state."""
    wrapping = [dimension for dimension in measured.dimensions if len(dimension.wraps)]
    if not wrapping:
        return
    recipe = subject.recipe
    mask = None if recipe is None else recipe.processor.relative_mask
    relative = [d for d in wrapping if mask is not None and d.number < len(mask) and mask[d.number]]
    told = ", ".join(_leaps(measured, d) for d in wrapping[:MOST_NAMED])
    numbers = {"dimensions": [d.label for d in wrapping], "relative": [d.label for d in relative]}
    text = f"angles leap around their circle: {told}"
    remedy = "record the rotation without a seam (unwrapped, as six numbers or as axis times angle away from ±π)"
    if relative:
        keep = ", ".join(dict.fromkeys(d.name for d in relative))
        yield error(
            "numbers.wrap",
            f"{text}; {', '.join(d.label for d in relative)} is trained relative to the state",
            "subtracts angles across the seam: the arm turns nearly a full circle the wrong way",
            f"{remedy}, or keep it absolute: --policy.relative_exclude_joints='[{keep}]'",
            numbers,
        )
    else:
        effect = "averages the two ends of the circle, which point the other way"
        yield warning("numbers.wrap", text, effect, remedy, numbers)


def _leaps(measured: Measured, dimension: Dimension) -> str:
    episode, frame = measured.signals.place(int(dimension.wraps[0]))
    return f"{dimension.label} {len(dimension.wraps)} times (the first in episode {episode}, frame {frame})"
