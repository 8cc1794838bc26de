"""Named tensors on disk, read one at a time: safetensors files (one or several), NumPy .npz archives.

Opening reads names and shapes only; a safetensors file is memory-mapped. A file that is cut short or damaged is an
error, at opening where the format tells, otherwise at the tensor. Knows nothing of what the names mean.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pi05.checkpoint.jax import tidy_name
from pi05.errors import CheckpointError

DAMAGED = (SafetensorError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
REMEDY_DAMAGED = "copy or download the file again"


class TensorFiles:
    """The tensors of one checkpoint, spread over one or several files."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, tuple[Path, Callable[[], Tensor]]] = {}
        for path in paths:
            try:
                open_archive = _open_npz if path.suffix == ".npz" else _open_safetensors
                for name, shape, reader in open_archive(path):
                    self._add(path, name, shape, reader)
            except DAMAGED as error:
                raise _damaged(path, error) from error

    def _add(self, path: Path, name: str, shape: tuple[int, ...], reader: Callable[[], Tensor]) -> None:
        if name in self.shapes:
            raise CheckpointError(
                "a tensor is in the checkpoint twice",
                found=f"{name} in {self._readers[name][0]} and {path}",
                remedy="remove the file that does not belong to the checkpoint",
            )
        self.shapes[name] = shape
        self._readers[name] = path, reader

    def read(self, name: str) -> Tensor:
        """Return one tensor. Raises CheckpointError when it cannot be read, is not floating point or not finite."""
        path, reader = self._readers[name]
        try:
            tensor = reader()
        except DAMAGED as error:
            raise _damaged(path, error) from error
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"tensor {name} does not hold weights",
                wanted="floating-point numbers",
                found=f"{tensor.dtype} in {path}",
                remedy="use a checkpoint that is not quantised",
            )
        if not _all_finite(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"tensor {name} is not finite",
                wanted="finite weights",
                found=f"{bad} of {tensor.numel()} values are NaN or infinite, in {path}",
                remedy="use an earlier checkpoint of that run",
            )
        return tensor

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.paths)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file, by file name."""
        result = {}
        for path in self.paths:
            with path.open("rb") as file:
                result[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return result


def combine_hashes(hashes: dict[str, str]) -> str:
    """Return one hash for the files: that of the only one, or of the sorted lines "name hash"."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "\n".join(f"{name} {value}" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _all_finite(tensor: Tensor) -> bool:
    """Say whether no value is NaN or infinite; without a temporary of the tensor's size, as `isfinite` makes."""
    if tensor.numel() == 0:
        return True
    low, high = tensor.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))


Entry = tuple[str, tuple[int, ...], Callable[[], Tensor]]


def _open_safetensors(path: Path) -> list[Entry]:
    file = safe_open(path, framework="pt")
    names = list(file.keys())
    return [(name, tuple(file.get_slice(name).get_shape()), _safetensor(file, name)) for name in names]


def _safetensor(file: Any, name: str) -> Callable[[], Tensor]:
    return lambda: file.get_tensor(name)


def _open_npz(path: Path) -> list[Entry]:
    archive = zipfile.ZipFile(path)
    entries = []
    for member in archive.namelist():
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, _ = header(file)
        entries.append((tidy_name(member.removesuffix(".npy")), tuple(shape), _npz_member(archive, member)))
    return entries


def _npz_member(archive: zipfile.ZipFile, member: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with archive.open(member) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # to the end, where the checksum is compared
        return torch.from_numpy(array)

    return read


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "the checkpoint file cannot be read: it is damaged, cut short, or not what its name says",
        wanted="a complete .safetensors or .npz file",
        found=f"{path}: {error}",
        remedy=REMEDY_DAMAGED,
    )
