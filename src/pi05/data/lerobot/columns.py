"""Values out of a data set's parquet files, checked: every problem names file, episode and frame.

A column of vectors becomes an array [rows, dims], whatever list type it is stored as; pictures are decoded to RGB.
Leaves out what the columns mean (`reader.py`) and videos (`video.py`).
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from pi05.data.lerobot.files import DOWNLOAD_AGAIN, dropping, excluding, open_parquet, read_parquet, unreadable
from pi05.data.lerobot.layout import EpisodeFiles
from pi05.errors import DataError

_ORIENTATION = ExifTags.Base.Orientation


class Table:
    """One parquet file and the episodes in it, in the order of their rows."""

    def __init__(self, path: Path, episodes: Sequence[EpisodeFiles]) -> None:
        self.path, self.episodes = path, list(episodes)
        self._first_rows = [episode.first_row for episode in episodes]

    @property
    def num_rows(self) -> int:
        """Rows that the episode list gives this file."""
        return sum(episode.length for episode in self.episodes)

    def locate(self, row: int) -> tuple[EpisodeFiles, int]:
        """Return the episode of a row, and the frame's number within it."""
        episode = self.episodes[max(bisect_right(self._first_rows, row) - 1, 0)]
        return episode, row - episode.first_row

    def fault(self, problem: str, row: int, *, wanted: str, found: str, remedy: str) -> DataError:
        """Return the error for a bad value in a row."""
        episode, frame = self.locate(row)
        where = f"episode {episode.index}, frame {frame}"
        return DataError(f"{problem} at {where}: {self.path}", wanted=wanted, found=found, remedy=remedy)

    @cached_property
    def _footer(self) -> tuple[list[str], list[int], dict[str, pa.DataType]]:
        with open_parquet(self.path, "data file", self.episodes[0].index) as file:
            sizes = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
            kinds = {field.name: field.type for field in file.schema_arrow}
            return list(kinds), [0, *np.cumsum(sizes).tolist()], kinds

    @property
    def column_names(self) -> list[str]:
        """Names of the columns. Reads the footer."""
        return self._footer[0]

    @property
    def row_groups(self) -> list[int]:
        """First row of each row group, and the number of rows at the end. Reads the footer."""
        return self._footer[1]

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

    def cells(self, name: str, group: int) -> Any:
        """Read one row group of a column; pictures stay compressed."""
        with open_parquet(self.path, "data file", self.episodes[0].index) as file:
            try:
                return file.read_row_group(group, columns=[name], use_threads=False)[name].combine_chunks()
            except (pa.ArrowException, OSError, KeyError) as error:
                episode, _ = self.locate(self.row_groups[group])
                raise unreadable(self.path, "data file", error, episode.index) from error

    def images(self, name: str, start: int, stop: int, root: Path) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Decode the pictures of rows start..stop-1."""
        groups = self.row_groups
        for group in range(bisect_right(groups, start) - 1, len(groups) - 1):
            if groups[group] >= stop:
                return
            cells = self.cells(name, group)
            for row in range(max(start, groups[group]), min(stop, groups[group + 1])):
                yield self.decode_image(cells[row - groups[group]].as_py(), name, row, root)

    def decode_image(self, cell: Any, name: str, row: int, root: Path) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one picture cell: a struct of bytes and path as LeRobot writes it, or bytes, or a path alone."""
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        path = cell.get("path") if isinstance(cell, dict) else None
        if isinstance(data, str):
            data, path = None, data
        try:
            if data is None:
                if path is None:
                    raise OSError("an empty cell")
                data = (root / path).read_bytes()
            return decode_picture(data)
        except PictureKind as error:
            raise self.fault(
                f"a picture of {name} is not one of 8 bits per colour",
                row,
                wanted="8 bits per colour or grey value",
                found=str(error),
                remedy=f"convert the pictures, or leave the camera out: {dropping(name)}",
            ) from error
        except (OSError, SyntaxError, ValueError) as error:
            episode, _ = self.locate(row)
            raise self.fault(
                f"the picture of {name} cannot be read",
                row,
                wanted="a PNG or JPEG image",
                found=f"{type(error).__name__}: {error}",
                remedy=f"{DOWNLOAD_AGAIN}, or train without that episode: {excluding(episode.index)}",
            ) from error

    def require_pictures(self, name: str) -> None:
        """Raise DataError unless a column can hold compressed pictures. Reads the footer."""
        kind = self._footer[2][name]
        if pa.types.is_struct(kind):
            fields = {kind.field(i).name for i in range(kind.num_fields)}
            fits = bool(fields & {"bytes", "path"})
        else:
            tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
            fits = any(test(kind) for test in tests)
        if not fits:
            raise DataError(
                f"camera {name} is no column of pictures: {self.path}",
                wanted="PNG or JPEG files as bytes or paths, as dtype image in meta/info.json says",
                found=f"a column of type {kind}",
                remedy=f"write the pictures as PNG, as LeRobot does, or leave the camera out: {dropping(name)}",
            )


class PictureKind(Exception):
    """A picture that cannot become 8-bit RGB without a guess; the text says of which kind it is."""


def decode_picture(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a PNG or JPEG file to RGB, turned upright as its EXIF entry says, which is how LeRobot reads it.

    Raises PictureKind for 16-bit and float pictures: their range is not known, and Pillow would cut it off at 255.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.mode in ("F", "I") or image.mode.startswith("I;"):
            raise PictureKind(f"a {image.format} of mode {image.mode} (16 or more bits per pixel: a depth map?)")
        upright = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION) is not None else image
        return np.array(upright.convert("RGB"))
