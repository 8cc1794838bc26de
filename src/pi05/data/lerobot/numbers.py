"""The numbers of a data set, out of its parquet files: states and actions of all frames, columns of one episode.

States and actions are joined from the columns that they consist of (`vectors.py`). Files of which no used episode is a
part, and which cannot be read, are left out. Leaves out the index columns (`index_columns.py`), and pictures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from pi05.data.lerobot.columns import Table
from pi05.data.lerobot.layout import DatasetLayout, EpisodeFiles, IsUsed, is_camera
from pi05.data.lerobot.vectors import Vector, find_broken, require_memory

KEPT_TABLES = 4
"""Files whose columns are kept, those read last."""


def sizes_of(*vectors: Vector) -> dict[str, int]:
    """Return the columns that vectors consist of, with how many numbers each has."""
    return {column.name: column.size for vector in vectors for column in vector.columns}


class Numbers:
    """The columns of numbers of a data set."""

    def __init__(
        self,
        root: Path,
        layout: DatasetLayout,
        tables: Mapping[Path, Table],
        skipped: Collection[Path],
        state: Vector,
        action: Vector,
        is_used: IsUsed,
    ) -> None:
        self._root, self._layout, self._tables, self._skipped = root, layout, tables, skipped
        self._state, self._action, self._is_used = state, action, is_used
        self._sizes = sizes_of(state, action)
        self._kept: OrderedDict[Path, dict[str, np.ndarray]] = OrderedDict()

    @cached_property
    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """States and actions of all frames, float32 [frames, size], read in one pass; finite where they are used."""
        num_frames = sum(episode.length for episode in self._layout.episodes)
        require_memory(self._root, num_frames, self._state.size + self._action.size)
        states = np.zeros((num_frames, self._state.size), np.float32)
        actions = np.zeros((num_frames, self._action.size), np.float32)
        for table in self._readable():
            values = self._read(table, list(self._sizes))
            state, action = self._state.join(values), self._action.join(values)
            for files in table.episodes:
                frames = slice(files.start, files.start + files.length)
                rows = rows_of(files)
                states[frames], actions[frames] = state[rows], action[rows]
        return states, actions

    def broken(self) -> dict[int, tuple[int, str]]:
        """Return the used episodes whose state or action is not finite somewhere: how many frames, and where first."""
        vectors, found = {"state": self._state, "action": self._action}, dict[int, tuple[int, str]]()
        for table in self._readable():
            values = table.read(list(self._sizes))
            for files in (files for files in table.episodes if self._is_used(files.index)):
                rows = rows_of(files)
                broken = find_broken(vectors, {name: column[rows] for name, column in values.items()})
                if broken is not None:
                    found[files.index] = broken
        return found

    def columns(self, names: Sequence[str], episode: int) -> dict[str, np.ndarray]:
        """Return columns of one episode, state and action under their keys. Raises DataError, or KeyError for others'
        names.
        """
        files = self._layout.episodes[episode]
        vectors = {self._state.key: self._state, self._action.key: self._action}
        there = [name for name, feature in self._layout.features.items() if not is_camera(feature)]
        for name in names:
            if name not in there and name not in vectors:
                known = ", ".join(dict.fromkeys([*vectors, *there]))
                raise KeyError(f"{name} is not a column of numbers of this data set; there are {known}")
        parts = {
            name: [column.name for column in vectors[name].columns] if name in vectors else [name] for name in names
        }
        kept = self.columns_of(files.table, list(dict.fromkeys(part for own in parts.values() for part in own)))
        kept = {name: values[rows_of(files)] for name, values in kept.items()}
        return {name: vectors[name].join(kept) if name in vectors else kept[name] for name in names}

    def columns_of(self, path: Path, names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return columns of one file, from the few files read last as far as they are there."""
        values = self._kept.pop(path, {})
        missing = [name for name in names if name not in values]
        if missing:
            values = {**values, **self._read(self._tables[path], missing)}
        self._kept[path] = values
        while len(self._kept) > KEPT_TABLES:
            self._kept.popitem(last=False)
        return values

    def _readable(self) -> list[Table]:
        return [table for path, table in self._tables.items() if path not in self._skipped]

    def _read(self, table: Table, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Read columns of one file; those of state and action become float32 [rows, size] and must be finite."""
        unused = [files for files in table.episodes if not self._is_used(files.index)]
        sizes = {name: self._sizes[name] for name in names if name in self._sizes}
        others = [name for name in names if name not in sizes]
        return {**table.read_vectors(sizes, unused), **(table.read(others) if others else {})}


def rows_of(files: EpisodeFiles) -> slice:
    """Return the rows of an episode in its data file."""
    return slice(files.first_row, files.first_row + files.length)
