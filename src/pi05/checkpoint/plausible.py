"""Are stored statistics such as data can have? What is not finite, huge or upside down would move a robot anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError

LARGEST = 1e30
"""Larger numbers do not survive the arithmetic of the network, which is float32."""


def require_plausible(stats: DimStats, what: str, path: Path) -> None:
    """Raise CheckpointError for statistics that no data has: not finite, huge, lower bounds above upper ones."""
    known = {name: np.asarray(stats.value(name)) for name in stats.known}
    for name, array in known.items():
        bad = np.flatnonzero(~(np.abs(array) <= LARGEST) | ((array < 0) if name == "std" else False))
        if bad.size:
            raise _implausible(what, path, f"{name} from {'0' if name == 'std' else '-1e30'} to 1e30", name, array, bad)
    for low, high in (("q01", "q99"), ("min", "max")):
        if low in known and high in known:
            bad = np.flatnonzero(known[low] > known[high])
            if bad.size:
                both = np.stack([known[low], known[high]], axis=1)
                raise _implausible(what, path, f"{low} at most {high}", f"{low}, {high}", both, bad)


def _implausible(what: str, path: Path, wanted: str, name: str, values: np.ndarray, bad: np.ndarray) -> CheckpointError:
    place = int(bad[0])
    return CheckpointError(
        f"the statistics of {what} are none that data can have",
        wanted=wanted,
        found=f"{name}: {values[place].tolist()} in dimension {place}, {path}",
        remedy="restore the file: copy or download it again, or compute the statistics anew",
    )
