"""All checks of states and actions, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator

from pi05.check.numbers.gripper import judge_gripper
from pi05.check.numbers.measure import measure
from pi05.check.numbers.motion import judge_first_frames, judge_glitches, judge_noise, judge_stillness
from pi05.check.numbers.pairing import judge_equality, judge_order, measure_pairs
from pi05.check.numbers.signals import Signals
from pi05.check.numbers.units import judge_angles, judge_calibration, judge_scale, judge_units
from pi05.check.numbers.zero import judge_zero
from pi05.check.subject import Subject
from pi05.finding import Finding

FEWEST_FRAMES = 2


def check_numbers(subject: Subject) -> Iterator[Finding]:
    """Yield what is found about states and actions; each dimension is measured once.

    What the actions mean to a recipe is said in `recipe.py`.
    """
    signals = Signals(subject)
    if len(signals) < FEWEST_FRAMES:
        return
    measured = measure(signals)
    pairs = measure_pairs(signals)
    yield from judge_glitches(measured)
    yield from judge_first_frames(measured)
    yield from judge_stillness(measured)
    yield from judge_noise(measured)
    yield from judge_units(measured)
    yield from judge_scale(pairs)
    yield from judge_calibration(pairs, signals.episodes)
    yield from judge_zero(measured)
    yield from judge_angles(subject, measured)
    yield from judge_equality(pairs)
    yield from judge_order(signals)
    yield from judge_gripper(measured)
