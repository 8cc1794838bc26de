"""The pictures of a data set, out of its videos and its parquet files: decoded, upright, of the size that is announced.

A cell holds a picture's bytes, or the path of a file inside the data set. Sizes are read from the header before a pixel
is decoded. Leaves out which frames of a video are an episode's (`clips.py`).
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from pi05.data.lerobot.clips import Clips
from pi05.data.lerobot.columns import RowGroups, Table
from pi05.data.lerobot.files import DOWNLOAD_AGAIN, dropping, excluding
from pi05.data.lerobot.layout import EpisodeFiles, is_video
from pi05.data.lerobot.video import LARGEST_PICTURE
from pi05.data.robot.depth import is_deep
from pi05.errors import DataError
from pi05.files import inside, read_regular

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
"""Of pictures, as Pillow calls them; it knows others, some of which run other programs."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
"""Of pictures that lie beside the tables, which then hold their paths."""
LARGEST_FILE = 256 * 2**20
"""Bytes of one picture's file."""
_ORIENTATION = ExifTags.Base.Orientation


class Pictures:
    """The pictures of all cameras of a data set."""

    def __init__(
        self,
        root: Path,
        features: Mapping[str, Mapping[str, Any]],
        tables: Mapping[Path, Table],
        clips: Clips,
        groups: RowGroups,
    ) -> None:
        self._root, self._features, self._tables = root, features, tables
        self._clips, self._groups = clips, groups

    def one(self, camera: str, files: EpisodeFiles, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return frame `number` of an episode."""
        if is_video(self._features[camera]):
            image = self._clips.frame(camera, files, number)
        else:
            table, row = self._tables[files.table], files.first_row + number
            image = decode_cell(table, self._groups.cell(table, camera, row), camera, row, self._root)
        return self._check_size(image, camera, files)

    def all(self, camera: str, files: EpisodeFiles) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yield an episode from its first frame to its last; each is decoded once."""
        if is_video(self._features[camera]):
            pictures = self._clips.frames(camera, files)
        else:
            pictures = self._stored(self._tables[files.table], camera, files)
        for image in pictures:
            yield self._check_size(image, camera, files)

    def _stored(self, table: Table, camera: str, files: EpisodeFiles) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        groups, start, stop = table.row_groups, files.first_row, files.first_row + files.length
        for group in range(bisect_right(groups, start) - 1, len(groups) - 1):
            if groups[group] >= stop:
                return
            row = groups[group]
            for cells in table.batches(camera, group):
                for k in range(max(start - row, 0), min(stop - row, len(cells))):
                    yield decode_cell(table, cells[k].as_py(), camera, row + k, self._root)
                row += len(cells)
                if row >= stop:
                    return

    def _check_size(self, image: np.ndarray, camera: str, files: EpisodeFiles) -> np.ndarray:
        shape = self._features[camera].get("shape") or []
        height, width = image.shape[:2]
        if len(shape) == 3 and [height, width] not in (shape[:2], shape[1:]):
            raise DataError(
                f"the pictures of {camera}, episode {files.index}, are not of the size in meta/info.json: {self._root}",
                wanted=f"shape {shape}",
                found=f"height {height}, width {width}",
                remedy="correct the camera's shape in meta/info.json, or replace the video of that episode",
            )
        return image


def decode_cell(table: Table, cell: Any, name: str, row: int, root: Path) -> UInt8[np.ndarray, "height width 3"]:
    """Decode one picture cell: a struct of bytes and path as LeRobot writes it, or bytes, or a path alone.

    A path counts from `root`. Raises DataError for one that leads out of it, and for what is no picture.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    path = cell.get("path") if isinstance(cell, dict) else None
    if isinstance(data, str):
        data, path = None, data
    episode, frame = table.locate(row)
    try:
        if data is None:
            if path is None:
                raise OSError("an empty cell")
            place = f"{name} at episode {episode.index}, frame {frame}, in {table.path}"
            data = read_regular(inside(root, path, place, DataError, "the data set"), LARGEST_FILE)
        return decode_picture(data)
    except PictureKind as error:
        raise table.fault(
            f"a picture of {name} is not one that is read: {error.problem}",
            row,
            wanted=error.wanted,
            found=error.found,
            remedy=f"convert the pictures, or leave the camera out: {dropping(name)}",
        ) from error
    except (OSError, ValueError) as error:
        raise table.fault(
            f"the picture of {name} cannot be read",
            row,
            wanted="a PNG or JPEG image",
            found=f"{type(error).__name__}: {error}",
            remedy=f"{DOWNLOAD_AGAIN}, or train without that episode: {excluding(episode.index)}",
        ) from error


class PictureKind(Exception):
    """A whole picture that cannot become 8-bit RGB without a guess, or of a size that no robot's camera has."""

    def __init__(self, problem: str, *, wanted: str, found: str) -> None:
        super().__init__(f"{problem} (wanted {wanted}, found {found})")
        self.problem, self.wanted, self.found = problem, wanted, found


def decode_picture(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a PNG or JPEG file to RGB, turned upright as its EXIF entry says, which is how LeRobot reads it.

    Raises PictureKind for 16-bit and float pictures, whose range is not known and which Pillow would cut off at 255,
    and for more than `LARGEST_PICTURE` pixels; ValueError or OSError for what is no picture.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_size(image.width, image.height)
            if is_deep(image):
                raise PictureKind(
                    "more than 8 bits",
                    wanted="8 bits per colour or grey value",
                    found=f"a {image.format} of mode {image.mode} (16 or more bits per pixel: a depth map?)",
                )
            upright = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION) is not None else image
            return np.array(upright.convert("RGB"))
    except (PictureKind, OSError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(error)) from error
    except Exception as error:  # what Pillow's decoders raise on damage is of every kind, struct.error among them
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _require_size(width: int, height: int) -> None:
    if width * height > LARGEST_PICTURE:
        raise _too_large(f"{width} × {height}")


def _too_large(found: str) -> PictureKind:
    return PictureKind("too large", wanted=f"at most {LARGEST_PICTURE:,} pixels", found=found)
