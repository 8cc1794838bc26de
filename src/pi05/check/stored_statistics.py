"""Are the statistics in `meta/stats.json` those of the data? No run of pi05 reads them; those of other programs do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pi05.check.subject import Subject
from pi05.data.lerobot.vectors import Vector
from pi05.files import read_notes
from pi05.finding import Finding, note

OFF = 0.02
"""Share of a dimension's range by which a number may be off: rounding, and a few frames that were left out since."""


def check_stored_statistics(subject: Subject) -> Iterator[Finding]:
    """Yield a note where the set's statistics are those of other data; nothing where it has none."""
    dataset = subject.dataset
    stored = read_notes(dataset.root / "meta" / "stats.json")
    wrong = {}
    for vector, values in ((dataset.state_vector, dataset.states), (dataset.action_vector, dataset.actions)):
        told = _told(stored, vector)
        if told:
            off = _largest_difference(told, values())
            if off is not None and off[0] > OFF:
                wrong[vector.columns[0].name] = off
    if wrong:
        listed = "; ".join(f"{name}: {text}" for name, (_, text) in wrong.items())
        yield note(
            "structure.statistics",
            f"meta/stats.json does not describe the data: {listed}",
            "is not changed by it: it computes its own; other programs train and act with these",
            "pi05 check --fix writes a copy with true statistics",
            {name: share for name, (share, _) in wrong.items()},
        )


def _told(stored: Mapping[str, Any], vector: Vector) -> Mapping[str, Any]:
    """Return what is stored of a vector that is one column."""
    told = stored.get(vector.columns[0].name) if len(vector.columns) == 1 else None
    return told if isinstance(told, Mapping) else {}


def _largest_difference(told: Mapping[str, Any], values: np.ndarray) -> tuple[float, str] | None:
    """Return the largest one as a share of the dimension's range, and in words; None where none can be read."""
    reach = np.maximum(np.ptp(values, axis=0), 1e-6)
    numbers = {  # no quantiles: LeRobot's are those of episodes put together, and mostly others than the data's
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0, dtype=np.float64),
        "std": values.std(axis=0, dtype=np.float64),
    }
    found: list[tuple[float, str]] = []
    for name, true in numbers.items():
        try:
            stored = np.ravel(np.asarray(told.get(name), np.float64))
        except (TypeError, ValueError):
            continue
        if stored.shape == true.shape and np.isfinite(stored).all():
            share = np.abs(stored - true) / reach
            at = int(share.argmax())
            words = f"{name} of dimension {at} is told as {stored[at]:.4g}, and is {true[at]:.4g}"
            found.append((float(share[at]), words))
    return max(found, default=None)
