"""What moves, and how: glitches, jumps, stale first frames, idling, states that stand still, noise.

Each judge takes what was measured (`measure.py`) and yields findings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi05.check.numbers.gripper import is_gripper
from pi05.check.numbers.measure import Dimension, Measured
from pi05.check.structure import MOST_NAMED, named
from pi05.data.lerobot.files import excluding
from pi05.data.range_floor import ENOUGH_EPISODES
from pi05.finding import Finding, error, note, warning

NOISE, RESTLESS = 0.3, 0.2
"""Correlation of each action with the one before below which a dimension is noise, where it changes in so many steps:
a button that is pressed for a frame is none."""
LEAST_STEPS = 50
"""Steps of all episodes below which nothing is said about noise and idling."""
STALE = 0.1
"""The first state is stale where it is this much closer to the episode before than to the next frame."""
LEAPS = 5.0
"""And from there it leaps: so many times as far as the step that follows. A robot that rests between two episodes and
then sets off does not."""
STALE_EPISODES = 0.5
"""Share of the episodes in which it must be."""
IDLE = 0.3
"""Share of the steps without any movement."""


def judge_glitches(measured: Measured) -> Iterator[Finding]:
    """Yield values that are far away for a moment, and jumps of the state.

    What comes in most episodes is the robot's way, and a gripper may snap; of a dimension that is noise all over
    nothing can be told.
    """
    signals = measured.signals

    def rare(frames: np.ndarray) -> bool:
        enough = max(ENOUGH_EPISODES, -(-len(signals.episodes) // 2))  # as the range of a dimension takes it
        return len(signals.episodes_of(frames)) < enough

    found: dict[str, np.ndarray] = {}
    for dimension in measured.dimensions:
        if _is_noise(dimension):
            continue
        far = dimension.far if rare(dimension.far) else dimension.far[:0]
        frames = np.union1d(far, dimension.spikes)
        if len(frames):
            found[dimension.label] = frames
    if found:
        yield _glitches(measured, found)
    jumps = {
        d.label: d.jumps
        for d in measured.of("state")
        if len(d.jumps) and rare(d.jumps) and not len(d.wraps) and not is_gripper(d.name)
    }
    if jumps:
        every = np.unique(np.concatenate(list(jumps.values())))
        episodes = signals.episodes_of(every)
        yield warning(
            "numbers.jumps",
            f"the state jumps within {len(episodes)} episodes, {len(every)} times: {_places(measured, jumps)}",
            "learns movements that no robot makes; frames were lost there, or two recordings were joined",
            f"split or repair these episodes, or {excluding(*episodes[:50])}",
            {"episodes": episodes, "frames": _frames(measured, jumps)},
        )


def _glitches(measured: Measured, found: dict[str, np.ndarray]) -> Finding:
    every = np.unique(np.concatenate(list(found.values())))
    episodes = measured.signals.episodes_of(every)
    return warning(
        "numbers.spikes",
        f"{len(every)} frames in {len(episodes)} episodes ({named(episodes)}) have values far from those before and "
        f"after: {_places(measured, found)}",
        "takes them as true: they widen what is normalised and are learnt as commands",
        f"repair these frames, or {excluding(*episodes[:50])}",
        {"episodes": episodes, "frames": _frames(measured, found)},
    )


def _places(measured: Measured, found: dict[str, np.ndarray]) -> str:
    parts = []
    for label, frames in list(found.items())[:MOST_NAMED]:
        episode, frame = measured.signals.place(int(frames[0]))
        parts.append(f"{label} ({len(frames)}, the first in episode {episode}, frame {frame})")
    more = len(found) - MOST_NAMED
    return ", ".join(parts) + (f" and {more} more dimensions" if more > 0 else "")


def _frames(measured: Measured, found: dict[str, np.ndarray]) -> dict[str, list[list[int]]]:
    """Return the places of each dimension as pairs of episode and frame, up to a hundred."""
    return {
        label: [list(measured.signals.place(frame)) for frame in frames[:100].tolist()]
        for label, frames in found.items()
    }


def _is_noise(dimension: Dimension) -> bool:
    return dimension.follows < NOISE and dimension.changes > RESTLESS


def judge_noise(measured: Measured) -> Iterator[Finding]:
    """Yield the action dimensions in which no value tells anything of the next one, and the constant ones."""
    actions = measured.of("action")
    noisy = [dimension for dimension in actions if _is_noise(dimension)]
    if noisy and measured.signals.inside.sum() >= LEAST_STEPS:
        yield warning(
            "numbers.noise",
            f"{len(noisy)} of {len(actions)} action dimensions are noise, each value independent of the one before: "
            + ", ".join(
                f"{d.name} (correlation {d.follows:.2f}, {d.low:.3g} to {d.high:.3g})" for d in noisy[:MOST_NAMED]
            ),
            f"spends {len(noisy)}/{len(actions)} of its loss on what nobody can predict",
            "leave them out of the action (--dataset.action names columns), or set them to a constant",
            {"dimensions": [d.name for d in noisy], "correlations": [d.follows for d in noisy]},
        )
    constant = [dimension for dimension in measured.dimensions if dimension.is_constant]
    if constant:
        told = ", ".join(d.label for d in constant[:MOST_NAMED])
        more = "" if len(constant) <= MOST_NAMED else f" and {len(constant) - MOST_NAMED} more"
        yield note(
            "numbers.constant",
            f"{len(constant)} of {len(measured.dimensions)} dimensions never change: {told}{more}",
            "carries them along; an action that never changed in training is not controlled",
            numbers={kind: [d.name for d in constant if d.kind == kind] for kind in ("state", "action")},
        )


def judge_first_frames(measured: Measured) -> Iterator[Finding]:
    """Yield episodes whose first state still is the last one of the episode before."""
    signals = measured.signals
    leaps = (measured.to_second > 0) & (measured.to_second > LEAPS * measured.to_third)
    stale = leaps & (measured.from_last < STALE * measured.to_second)
    if not stale.any() or stale.mean() < STALE_EPISODES:
        return
    episodes = [signals.episodes[number + 1] for number in np.flatnonzero(stale).tolist()]
    ratios = measured.from_last[stale] / measured.to_second[stale]
    yield warning(
        "numbers.stale_first",
        f"the first state of {len(episodes)} of {len(stale)} episodes is the last one of the episode before: "
        f"{named(episodes)}; it lies {float(np.median(ratios)):.2g} times as far from it as from its own second frame",
        "is told in the first frame of each episode that the robot stands where it ended before",
        "cut the first frame of these episodes; in the recorder, read the state anew before the first frame",
        {"episodes": episodes, "ratios": ratios.tolist()},
    )


def judge_stillness(measured: Measured) -> Iterator[Finding]:
    """Yield states that stand still within episodes, and how much of the time nothing moves at all."""
    signals, states = measured.signals, measured.of("state")
    frozen = np.logical_and.reduce([d.frozen for d in states])
    moving = np.logical_or.reduce([~d.frozen for d in measured.of("action")])
    stuck = frozen & moving & (signals.lengths > 1)
    if stuck.any():
        yield _frozen(measured, stuck)
        return
    count = int(signals.inside.sum())
    share = float(measured.still.sum()) / max(count, 1)
    if share > IDLE and count >= LEAST_STEPS:
        leading, trailing = _still_ends(measured)
        before, after = (float(ends.mean()) / signals.fps for ends in (leading, trailing))
        yield warning(
            "numbers.idle",
            f"in {share:.0%} of the frames no state moves; of that {before:.1f} s before the first movement of an "
            f"episode and {after:.1f} s after its last one, on average",
            "learns to stand still: from a resting robot the most frequent action is none",
            "cut the idle ends (pi05 check --fix), and pauses where nothing is waited for",
            {"share": share, "leading": leading.tolist(), "trailing": trailing.tolist(), "episodes": signals.episodes},
        )


def _frozen(measured: Measured, stuck: np.ndarray) -> Finding:
    signals, states = measured.signals, measured.of("state")
    episodes = [signals.episodes[number] for number in np.flatnonzero(stuck).tolist()]
    told = (
        f"the state never changes within {len(episodes)} of {len(signals.episodes)} episodes while the action does: "
        f"{named(episodes)}"
    )
    numbers = {"episodes": episodes}
    if stuck.all() and not all(d.is_constant for d in states):
        return error(
            "numbers.frozen_state",
            told,
            "learns the state as the number of an episode, and meets states at deployment that it has never seen",
            "record the state anew in every frame; or train without it: --prompt_format=none",
            numbers,
        )
    effect = "learns that the state tells nothing" if stuck.all() else "learns that the state may tell nothing"
    remedy = "train without it: --prompt_format=none" if stuck.all() else excluding(*episodes[:50])
    return warning("numbers.frozen_state", told, effect, f"repair the recorder; {remedy}", numbers)


def _still_ends(measured: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Return how many frames of each episode pass before the first movement, and after the last one."""
    signals = measured.signals
    leading, trailing = np.zeros(len(signals.lengths), np.int64), np.zeros(len(signals.lengths), np.int64)
    for number, (start, length) in enumerate(zip(signals.starts.tolist(), signals.lengths.tolist(), strict=True)):
        moves = np.flatnonzero(~measured.still[start : start + length - 1])
        leading[number] = moves[0] if len(moves) else length - 1
        trailing[number] = length - 2 - moves[-1] if len(moves) else 0
    return leading, trailing
