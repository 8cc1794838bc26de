"""Is the copy what was promised? It opens, and the numbers of every kept frame are the source's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi05.check.fix.judge import join
from pi05.check.fix.plan import Plan
from pi05.data.lerobot.files import read_parquet
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError


def open_copy(
    plan: Plan, folder: Path, state: Sequence[str] | None = None, action: Sequence[str] | None = None
) -> Dataset:
    """Open the copy with the reader that training uses. Raises DataError in the reader's words where it refuses."""
    try:
        return Dataset(folder, state=state, action=action)
    except DataError as error:
        raise DataError(
            f"the data set has a fault that is not mended by --fix: {error.problem}",
            wanted=error.wanted,
            found=error.found,
            remedy=f"{error.remedy}; nothing was written",
        ) from error


def compare(plan: Plan, data: Dataset) -> None:
    """Raise RuntimeError, an error of this program, where a number or the place of a picture is another one."""
    states, actions = data.states(), data.actions()
    known, table = None, None
    for kept, episode in zip(plan.kept, data.episodes, strict=True):
        if kept.place.table != known:
            known, table = kept.place.table, read_parquet(kept.place.table, "data file", plan.source.columns)
        rows = table.slice(kept.place.first + kept.cut[0], kept.length)
        state, action = join(plan.source, {name: rows[name] for name in rows.column_names})
        frames = slice(episode.start, episode.start + episode.length)
        if not (np.array_equal(states[frames], state) and np.array_equal(actions[frames], action)):
            raise RuntimeError(f"episode {episode.index} of the copy is not episode {kept.files.index} of the source")
