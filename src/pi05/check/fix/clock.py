"""Is only the column of times wrong, or is time missing from the recording?

A column of times may be replaced by frame / fps where the frames are evenly spaced in truth. What speaks for it: the
typical step is the one of the set's rate, and where the clock jumps, the robot does not: its state and action change no
more there than they do elsewhere. Where they do, frames were lost, and no clock brings them back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi05.data.lerobot.index_columns import CLOCK_TOLERANCE, clock_fault

TYPICAL = 0.1
"""How far the middle one of all steps may be from 1 / fps, as a share of it. Steps of wall clocks in the real set with
a bad clock (`cr5_v21_5ep_badclock`) have their middle within 0.02."""
GAP = 1.5
"""A step of so many frames is a gap: at least one frame is missing, or was late."""


@dataclass(frozen=True)
class ClockVerdict:
    """Exactly one of these, or neither where the clock is true."""

    mended: str | None = None
    broken: str | None = None


def judge_clock(
    times: np.ndarray | None, fps: float, state: np.ndarray, action: np.ndarray, *, pictures_match: bool
) -> ClockVerdict:
    """Say what is to become of an episode's times (None: it has none). `pictures_match`: as many pictures as rows."""
    if times is None:
        return ClockVerdict(mended="there was no timestamp")
    times = times.astype(np.float64)
    fault = clock_fault(times, fps)
    if fault is None and abs(times[0]) <= CLOCK_TOLERANCE:
        return ClockVerdict()
    if not pictures_match:
        return ClockVerdict(broken="its clock is wrong, and its video has other frames than it has rows")
    if fault is None:
        return ClockVerdict(mended=f"it started at {times[0]:.4f} s")
    if not np.isfinite(times).all():
        return ClockVerdict(mended=f"{fault[2]} stood in the place of a time at frame {fault[0]}")
    steps = np.diff(times)
    if not len(steps) or abs(np.median(steps) * fps - 1) > TYPICAL:
        middle = float(np.median(steps)) if len(steps) else 0.0
        return ClockVerdict(broken=f"its clock has steps of {middle:.4f} s, where {fps:g} frames/s make {1 / fps:.4f}")
    for at in np.flatnonzero(steps * fps > GAP).tolist():
        if _jumps(state, at) or _jumps(action, at):
            return ClockVerdict(
                broken=f"frames were lost: {steps[at]:.3f} s between frames {at} and {at + 1}, over which it moves "
                "further than in any other step"
            )
    worst = float(np.abs(steps - 1 / fps).max())
    gap = f", with a gap of {steps.max():.3f} s in which it rests or moves as in any step" if worst > GAP / fps else ""
    return ClockVerdict(mended=f"steps were off by up to {worst:.4f} s{gap}")


def _jumps(values: np.ndarray, at: int) -> bool:
    """Say whether any dimension changes more between two frames than in all other steps of the episode."""
    changes = np.abs(np.diff(values, axis=0))
    others = np.delete(changes, at, axis=0)
    return bool(len(others)) and bool((changes[at] > others.max(0)).any())
