"""One pass over all dimensions: what the judges beside this file need of each, measured once.

Thresholds here say what is counted; how much of it is too much is the judges' affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from pi05.check.numbers.rotation import wraps
from pi05.check.numbers.signals import Kind, Signal, Signals, correlation

OUTSIDE = 1.0
"""A value lies far outside where it is further beyond the lasting signal than that signal reaches."""
OUTSIDE_SETTLING = 50.0
"""The same for the first frames of an episode."""
LEAST_REACH = 1e-6
"""Reach of a signal that stands still: what is smaller is rounding."""
SPIKE_SHARE, SPIKE_TIMES = 0.25, 10.0
"""A state that leaves for a frame or two by this share of its reach, and by so many times what 99 % of frames do."""
JUMP_SHARE, JUMP_TIMES = 0.25, 5.0
"""A step of the state by this share of its reach, and by so many times what 99 % of the steps are."""
STILL, STILL_HZ = 1e-3, 20.0
"""Share of its reach below which a step of a state is none; at more frames a second than this, less in proportion: the
same slow motion then has smaller steps."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dimension:
    """What was measured of one dimension."""

    kind: Kind
    number: int
    name: str
    low: float
    high: float
    reach: float
    """Spanned by what lasts three frames or more."""
    is_switch: bool
    follows: float
    """Correlation of each value with the one before."""
    changes: float
    """Share of the steps in which it changes."""
    frozen: Bool[np.ndarray, " E"]
    """Episodes in which it never changes."""
    means: Float[np.ndarray, " E"]
    spans: Float[np.ndarray, " E"]
    """Highest minus lowest value of each episode."""
    firsts: Float[np.ndarray, " E"]
    lows: Float[np.ndarray, " E"]
    highs: Float[np.ndarray, " E"]
    """Where each episode starts, its lowest and its highest place, glitches left out."""
    far: Int64[np.ndarray, " _"]
    """Frames whose value lies far outside for a moment."""
    spikes: Int64[np.ndarray, " _"]
    """Frames in which a state leaves for a moment and comes back."""
    jumps: Int64[np.ndarray, " _"]
    """Frames to which a state jumps, and stays."""
    wraps: Int64[np.ndarray, " _"]
    """Frames to which an angle leaps from one end of its circle to the other."""

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return f"{self.kind} {self.name}"

    @property
    def is_constant(self) -> bool:
        """Whether every value is the same."""
        return self.low == self.high


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What was measured of all dimensions."""

    signals: Signals
    dimensions: list[Dimension]
    still: Bool[np.ndarray, " steps"]
    """Steps in which no state moves."""
    from_last: Float[np.ndarray, " pairs"]
    """How far the first state of each further episode lies from the last one of the episode before."""
    to_second: Float[np.ndarray, " pairs"]
    """And how far from its own second one."""
    to_third: Float[np.ndarray, " pairs"]
    """And how far that one lies from the third; all in reaches of the dimensions."""

    def of(self, kind: Kind) -> list[Dimension]:
        """Return the dimensions of the state or of the action."""
        return [dimension for dimension in self.dimensions if dimension.kind == kind]


def measure(signals: Signals) -> Measured:
    """Measure every dimension once."""
    dimensions = []
    still, least = signals.inside.copy(), STILL * min(1.0, STILL_HZ / signals.fps)
    starts = signals.starts[1:]
    second, third = (np.minimum(starts + further, len(signals) - 1) for further in (1, 2))
    from_last, to_second, to_third = np.zeros((3, len(starts)))
    for signal in signals.each():
        steps = np.abs(signals.steps(signal.values))
        dimensions.append(_measure_one(signals, signal, steps))
        if signal.kind == "state" and signal.reach > 0:
            still &= steps <= least * signal.reach
            values = signal.values.astype(np.float64) / signal.reach
            from_last += (values[starts] - values[starts - 1]) ** 2
            to_second += (values[second] - values[starts]) ** 2
            to_third += (values[third] - values[second]) ** 2
    return Measured(
        signals=signals,
        dimensions=dimensions,
        still=still,
        from_last=np.sqrt(from_last),
        to_second=np.sqrt(to_second),
        to_third=np.sqrt(to_third),
    )


def _measure_one(signals: Signals, signal: Signal, steps: np.ndarray) -> Dimension:
    values = signal.values
    lowest, highest = signals.lowest(values), signals.highest(values)
    none = np.array([], np.int64)
    moves = signal.kind == "state" and not signal.is_switch
    inside = signals.inside
    return Dimension(
        kind=signal.kind,
        number=signal.number,
        name=signal.name,
        low=float(lowest.min()),
        high=float(highest.max()),
        reach=signal.reach,
        is_switch=signal.is_switch,
        follows=correlation(values[:-1][inside], values[1:][inside]) if inside.any() else 0.0,
        changes=float(np.count_nonzero(steps)) / max(int(inside.sum()), 1),
        frozen=lowest == highest,
        means=signals.means(values),
        spans=(highest - lowest).astype(np.float64),
        firsts=signal.calm[signals.starts].astype(np.float64),
        lows=signals.lowest(signal.calm).astype(np.float64),
        highs=signals.highest(signal.calm).astype(np.float64),
        far=_far_outside(signals, signal),
        spikes=_spikes(signals, signal) if moves else none,
        jumps=_jumps(signals, signal, steps) if moves else none,
        wraps=none if signal.is_switch else wraps(values, steps),
    )


def _far_outside(signals: Signals, signal: Signal) -> np.ndarray:
    """Return frames whose value lies outside the lasting signal by more than it reaches, for a moment.

    While the robot settles, only what no settling explains.
    """
    low, high = float(signal.calm.min()), float(signal.calm.max())
    beyond = np.maximum(low - signal.values, signal.values - high)
    limit = np.where(signals.settled, OUTSIDE, OUTSIDE_SETTLING) * max(signal.reach, LEAST_REACH)
    return np.flatnonzero(beyond > limit)


def _spikes(signals: Signals, signal: Signal) -> np.ndarray:
    away = np.abs(signal.values - signal.calm)
    away[~signals.settled] = 0
    usual = float(np.quantile(away, 0.99))
    return np.flatnonzero(away > max(SPIKE_SHARE * signal.reach, SPIKE_TIMES * usual))


def _jumps(signals: Signals, signal: Signal, steps: np.ndarray) -> np.ndarray:
    """Return frames to which the state jumps and where it stays: its running median jumps as well."""
    usual = float(np.quantile(steps[signals.inside], 0.99)) if signals.inside.any() else 0.0
    found = np.flatnonzero(steps > max(JUMP_SHARE * signal.reach, JUMP_TIMES * usual)) + 1
    found = found[signals.settled[found]]
    before, after = np.maximum(found - 3, 0), np.minimum(found + 2, len(signals) - 1)
    stays = np.abs(signal.calm[after] - signal.calm[before]) > JUMP_SHARE * signal.reach
    kept: np.ndarray = found[stays]
    return kept
