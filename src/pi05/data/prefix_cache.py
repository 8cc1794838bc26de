"""The key/value cache of frames' prefixes on disk: what frozen vision and language towers say of un-augmented frames.

One memory-mapped NumPy file `[frames, layers, 2, K, L, H]`, keys before values, images before prompt, padded to the
longest prompt. bfloat16 lies in it as 16-bit integers, which NumPy knows. The file's name carries a hash of all that
its content depends on. Leaves out how the values are computed (`train/cached_prefix.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from pi05.data.frame_cache import require_room, reserve_file
from pi05.files import replacing

STORED: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.bfloat16: np.dtype(np.int16)}
"""Precision → what stands for it in the file."""


_NAMED = ("the cached prefixes", "leave --cache_prefix out")


class PrefixCache:
    """Prefixes of some frames of a data set in one memory-mapped file."""

    def __init__(self, path: Path, frames: np.ndarray, dtype: torch.dtype) -> None:
        self.path = path
        self._dtype = dtype
        self._row = np.full(int(frames.max()) + 1, -1)
        self._row[frames] = np.arange(len(frames))
        self._values: np.ndarray = np.load(path, mmap_mode="r")

    @property
    def longest(self) -> int:
        """Tokens of the longest prefix."""
        return int(self._values.shape[4])

    def read(self, frames: np.ndarray, length: int) -> Shaped[Tensor, "B layers 2 K L H"]:
        """Return the first `length` tokens' keys and values of frames, given by their global numbers."""
        _, layers, pair, heads, _, width = self._values.shape
        found = np.empty((len(frames), layers, pair, heads, length, width), self._values.dtype)
        for place, frame in enumerate(frames):
            found[place] = self._values[self._row[frame], ..., :length, :]
        return torch.from_numpy(found).view(self._dtype)


def write_prefixes(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, parts: Iterable[Shaped[Tensor, "_B layers 2 K _L H"]]
) -> None:
    """Write the prefixes of all frames, in order, under a temporary name; rename it when it is on the disk.

    Raises DataError when the disk has no room for all of it.
    """
    require_room(path.parent, file_bytes(shape, dtype), *_NAMED)
    with replacing(path) as temporary:
        file = np.lib.format.open_memmap(temporary, mode="w+", dtype=STORED[dtype], shape=shape)
        reserve_file(temporary, *_NAMED)
        done = 0
        for part in parts:
            values = part.contiguous().view(torch.int16 if dtype == torch.bfloat16 else dtype).numpy()
            file[done : done + len(values), ..., : values.shape[4], :] = values
            done += len(values)
        file.flush()
        del file


def file_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Return the bytes of the values."""
    return math.prod(shape) * STORED[dtype].itemsize
