"""Values out of a data set's parquet files, checked: every problem names file, episode and frame.

A column of vectors becomes an array [rows, dims], whatever list type it is stored as. Leaves out what the columns mean
(`reader.py`) and pictures (`pictures.py`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32

from pi05.data.lerobot.files import dropping, excluding, machine_memory, open_parquet, read_parquet, unreadable
from pi05.data.lerobot.footers import Footer, read_footer
from pi05.data.lerobot.layout import EpisodeFiles
from pi05.errors import DataError

_KEEP_GROUPS = 8
_MOST_ROWS = 4096


def _largest_group() -> int:
    """Return what a row group of one column, or all that are kept, may take in memory (bytes)."""
    return machine_memory() // 4


class Table:
    """One parquet file and the episodes in it, in the order of their rows."""

    def __init__(self, path: Path, episodes: Sequence[EpisodeFiles]) -> None:
        self.path, self.episodes = path, list(episodes)
        self._first_rows = [episode.first_row for episode in episodes]

    @property
    def num_rows(self) -> int:
        """Rows that the episode list gives this file."""
        return sum(episode.length for episode in self.episodes)

    @property
    def numbers(self) -> list[int]:
        """Numbers of its episodes."""
        return [episode.index for episode in self.episodes]

    def locate(self, row: int) -> tuple[EpisodeFiles, int]:
        """Return the episode of a row, and the frame's number within it."""
        episode = self.episodes[max(bisect_right(self._first_rows, row) - 1, 0)]
        return episode, row - episode.first_row

    def fault(self, problem: str, row: int, *, wanted: str, found: str, remedy: str) -> DataError:
        """Return the error for a bad value in a row."""
        episode, frame = self.locate(row)
        where = f"episode {episode.index}, frame {frame}"
        numbers = [episode.index]
        return DataError(
            f"{problem} at {where}: {self.path}",
            wanted=wanted,
            found=found,
            remedy=remedy,
            topic="values",
            episodes=numbers,
        )

    @cached_property
    def footer(self) -> Footer:
        """Rows, types and counts, as the file's end tells them."""
        try:
            return read_footer(self.path, self.episodes[0].index)
        except DataError as fault:
            fault.episodes = tuple(self.numbers)
            raise

    @property
    def column_names(self) -> list[str]:
        """Names of the columns. Reads the footer."""
        return list(self.footer.kinds)

    @property
    def row_groups(self) -> list[int]:
        """First row of each row group, and the number of rows at the end. Reads the footer."""
        return self.footer.row_groups

    def read(
        self, names: Sequence[str], finite: Sequence[str] = (), unused: Sequence[EpisodeFiles] = ()
    ) -> dict[str, np.ndarray]:
        """Read whole columns; those in `finite` must not hold NaN or infinity, save in the episodes in `unused`."""
        table = read_parquet(self.path, "data file", list(names), self.episodes[0].index)
        values = {}
        for name in names:
            if name not in table.column_names:
                raise self.fault(
                    f"there is no column {name}",
                    0,
                    wanted=f"{name}, which meta/info.json names",
                    found=", ".join(table.column_names) or "none of the columns asked for",
                    remedy="correct the features in meta/info.json, or write the data file anew",
                )
            array = self._to_numpy(table[name].combine_chunks(), name)
            values[name] = array
            if name not in finite or array.dtype.kind != "f":
                continue
            broken = ~np.isfinite(array)
            for files in unused:
                broken[files.first_row : files.first_row + files.length] = False
            if broken.any():
                position = tuple(np.argwhere(broken)[0])
                raise self.fault(
                    f"{name} has a value that is not a number",
                    int(position[0]),
                    wanted="finite numbers",
                    found=f"{array[position]}" + (f" in dimension {position[1]}" if len(position) > 1 else ""),
                    remedy="repair that episode, or train without it: --dataset.exclude_episodes '[NUMBER]'",
                )
        return values

    def read_vectors(
        self, sizes: Mapping[str, int], unused: Sequence[EpisodeFiles] = ()
    ) -> dict[str, Float32[np.ndarray, "rows _"]]:
        """Read columns of so many numbers in every row; finite, save in the episodes in `unused`."""
        vectors = {}
        for name, values in self.read(list(sizes), finite=list(sizes), unused=unused).items():
            array = values.reshape(len(values), math.prod(values.shape[1:]))
            if array.shape[1] != sizes[name] or array.dtype.kind not in "fiub":
                raise self.fault(
                    f"{name} is not what meta/info.json says",
                    0,
                    wanted=f"{sizes[name]} numbers in every frame",
                    found=f"{array.shape[1]} of type {array.dtype}",
                    remedy="correct its shape in meta/info.json, or write the data file anew",
                )
            vectors[name] = array.astype(np.float32)
        return vectors

    def _to_numpy(self, array: Any, name: str, rows_per_entry: int = 1) -> np.ndarray:
        """Convert a column; nested lists of equal length become further dimensions."""
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if array.null_count:
            row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False))) // rows_per_entry
            raise self._gap(name, row, "an empty cell")
        kind = array.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            sizes = pc.list_value_length(array).to_numpy(zero_copy_only=False)
            size = int(sizes[0]) if len(sizes) else 0
            if (sizes != size).any():
                row = int(np.argmax(sizes != size))
                raise self._gap(name, row // rows_per_entry, f"{sizes[row]} values where others have {size}")
            inner = self._to_numpy(array.flatten(), name, rows_per_entry * max(size, 1))
            return inner.reshape(len(array), size, *inner.shape[1:])
        return np.array(array.to_numpy(zero_copy_only=False))

    def as_numbers(self, cells: Any, name: str) -> Any:
        """Convert the cells of a column that nobody depends on; they stay as they are where that cannot be."""
        try:
            return self._to_numpy(cells, name)
        except DataError:
            return cells

    def _gap(self, name: str, row: int, found: str) -> DataError:
        episode, _ = self.locate(row)
        return self.fault(
            f"{name} is incomplete",
            row,
            wanted="the same number of values in every frame",
            found=found,
            remedy=f"repair that episode, or train without it: {excluding(episode.index)}",
        )

    def batches(self, name: str, group: int) -> Iterator[Any]:
        """Yield the cells of one row group of a column, some rows at a time; pictures stay compressed.

        A value that is stored once may stand in every row, so a small file may unpack to any size. A batch never
        unpacks to more than half of `_largest_group()`, or it is one row. Raises DataError for a row that may be larger
        than all of that.
        """
        largest, stored = _largest_group(), self.footer.unpacked[name][group]
        if stored > largest:
            raise self._too_large(name, group, stored)
        rows = max(1, largest // (2 * max(stored, 1)))
        options = {"batch_size": min(rows, _MOST_ROWS), "row_groups": [group], "columns": [name], "use_threads": False}
        with open_parquet(self.path, "data file", self.episodes[0].index) as file:
            try:
                yield from (batch[name] for batch in file.iter_batches(**options))
            except (pa.ArrowException, OSError, KeyError) as error:
                episode, _ = self.locate(self.row_groups[group])
                raise unreadable(self.path, "data file", error, episode.index) from error

    def cells(self, name: str, group: int) -> Any:
        """Return all cells of one row group of a column. Raises DataError where they unpack to more than fits."""
        kept, size = [], 0
        for batch in self.batches(name, group):
            size += batch.nbytes
            if size > _largest_group():
                raise self._too_large(name, group, size)
            kept.append(batch)
        return pa.chunked_array(kept, self.footer.kinds[name])

    def _too_large(self, name: str, group: int, size: int) -> DataError:
        return self.fault(
            f"{name} does not fit into the memory of this machine",
            self.row_groups[group],
            wanted=f"row groups that unpack to at most {_largest_group() / 1e9:.1f} GB, a quarter of the memory",
            found=f"one of more than {size / 1e9:.1f} GB",
            remedy=f"write the file anew with smaller row groups, or leave the column out: {dropping(name)}",
        )

    def require_pictures(self, name: str) -> None:
        """Raise DataError unless a column can hold compressed pictures. Reads the footer."""
        kind = self.footer.kinds[name]
        texts, data = (pa.types.is_string, pa.types.is_large_string), (pa.types.is_binary, pa.types.is_large_binary)
        if pa.types.is_struct(kind):
            tests = {"bytes": data, "path": texts}
            fields = [kind.field(i) for i in range(kind.num_fields) if kind.field(i).name in tests]
            fits = bool(fields) and all(
                pa.types.is_null(field.type) or any(test(field.type) for test in tests[field.name]) for field in fields
            )
        else:
            fits = any(test(kind) for test in (*texts, *data))
        if not fits:
            raise DataError(
                f"camera {name} is no column of pictures: {self.path}",
                wanted="PNG or JPEG files as bytes or paths, as dtype image in meta/info.json says",
                found=f"a column of type {kind}",
                remedy=f"write the pictures as PNG, as LeRobot does, or leave the camera out: {dropping(name)}",
            )


class RowGroups:
    """Row groups of columns; the few read last are kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, str, int, bool], Any] = OrderedDict()

    def cell(self, table: Table, name: str, row: int) -> Any:
        """Return one cell as it is stored."""
        cells, place = self._around(table, name, row, as_numbers=False)
        return cells[place].as_py()

    def value(self, table: Table, name: str, row: int) -> Any:
        """Return one cell of a column that nothing depends on: as numbers if it is some, else as it is stored."""
        cells, place = self._around(table, name, row, as_numbers=True)
        return cells[place] if isinstance(cells, np.ndarray) else cells[place].as_py()

    def _around(self, table: Table, name: str, row: int, as_numbers: bool) -> tuple[Any, int]:
        """Return the cells of the row's group, and the row's place among them."""
        group = bisect_right(table.row_groups, row) - 1
        key = (table.path, name, group, as_numbers)
        cells = self._kept.pop(key, None)
        if cells is None:
            cells = table.cells(name, group)
            cells = table.as_numbers(cells, name) if as_numbers else cells
        self._kept[key] = cells
        while len(self._kept) > 1 and (len(self._kept) > _KEEP_GROUPS or self._size() > _largest_group()):
            self._kept.popitem(last=False)
        return cells, row - table.row_groups[group]

    def _size(self) -> int:
        return sum(cells.nbytes for cells in self._kept.values())
