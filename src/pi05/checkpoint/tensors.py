"""Named tensors on disk, read one at a time: safetensors files (one or several), NumPy .npz archives.

Opening reads names and shapes only; a safetensors file is memory-mapped. A file that is cut short or damaged is an
error, at opening where the format tells, otherwise at the tensor. Knows nothing of what the names mean; orbax folders
are read next door (`openpi/orbax.py`).
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pi05.checkpoint.openpi.jax_names import tidy_name
from pi05.errors import CheckpointError
from pi05.files import is_lfs_pointer

FAULTS_SHOWN = 4
DAMAGED = (SafetensorError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
REMEDY_DAMAGED = "copy or download the file again"
LFS_REMEDY = "fetch the weights: git lfs pull in that folder, or hf download REPOSITORY --local-dir FOLDER"

Index = tuple[int, ...]
Shapes = Mapping[str, tuple[int, ...]]


@runtime_checkable
class TensorSource(Protocol):
    """Where weights are read from: names and shapes at once, values one tensor at a time."""

    @property
    def shapes(self) -> Shapes:
        """Shape of every tensor, by name."""

    @property
    def bytes(self) -> int:
        """Size of the files."""

    @property
    def aside(self) -> Mapping[str, str]:
        """What else the files hold and no network reads → what it is."""

    @property
    def merged(self) -> Mapping[str, str]:
        """Tensors of the files that were worked into others → into which."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the receipt should know."""

    def read(self, name: str) -> Tensor:
        """Return one tensor; it may lie in mapped memory and must not be written to."""

    def parts(self, name: str, indices: Sequence[Index]) -> Iterator[Tensor]:
        """Yield the parts of one tensor at these leading indices, in ascending order, one at a time."""

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file, by its name within the checkpoint."""


class TensorFiles:
    """The tensors of one checkpoint, spread over one or several files.

    `index` is what a sharded checkpoint says of itself, tensor name → file name; the files have to agree with it.
    """

    aside: Mapping[str, str] = {}
    merged: Mapping[str, str] = {}
    notes: Sequence[str] = ()

    def __init__(self, paths: list[Path], index: Mapping[str, str] | None = None) -> None:
        self.paths = paths
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, tuple[Path, Callable[[], Tensor]]] = {}
        for path in paths:
            try:
                open_archive = _open_npz if path.suffix == ".npz" else _open_safetensors
                for name, shape, reader in open_archive(path):
                    self._add(path, name, shape, reader)
            except DAMAGED as error:
                raise damaged(path, error) from error
        if index is not None:
            self._check_index(index)

    def _check_index(self, index: Mapping[str, str]) -> None:
        """Raise CheckpointError unless every tensor lies in the file that the index names, and no other is there."""
        lies_in = {name: path.name for name, (path, _) in self._readers.items()}
        faults = [f"{name} is not in {file}" for name, file in index.items() if lies_in.get(name) != file]
        faults += [f"{name} in {file} is not in the index" for name, file in lies_in.items() if name not in index]
        if faults:
            more = f"; {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
            raise CheckpointError(
                "the index of the sharded checkpoint and its files disagree; nothing was loaded",
                wanted=f"the {len(index)} tensors of the index, each in its file",
                found=f"{self.paths[0].parent}: {'; '.join(faults[:FAULTS_SHOWN])}{more}",
                remedy="copy or download the index and all files of the same revision again",
            )

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
            raise damaged(path, error) from error
        require_weights(name, tensor, path)
        return tensor

    def parts(self, name: str, indices: Sequence[Index]) -> Iterator[Tensor]:
        """Yield the parts of one tensor at these leading indices; the file is mapped, so all of it is read at once."""
        whole = self.read(name)
        for index in indices:
            yield whole[index] if index else whole

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.paths)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file, by file name."""
        return {path.name: hash_file(path) for path in self.paths}


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combine_hashes(hashes: dict[str, str]) -> str:
    """Return one hash for the files: that of the only one, or of the sorted lines "name hash"."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "\n".join(f"{name} {value}" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def require_weights(name: str, tensor: Tensor, where: Path) -> None:
    """Raise CheckpointError unless the tensor is floating point and finite."""
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"tensor {name} does not hold weights",
            wanted="floating-point numbers",
            found=f"{tensor.dtype} in {where}",
            remedy="use a checkpoint that is not quantised",
        )
    if not _all_finite(tensor):
        bad = int((~torch.isfinite(tensor)).sum())
        raise CheckpointError(
            f"tensor {name} is not finite",
            wanted="finite weights",
            found=f"{bad} of {tensor.numel()} values are NaN or infinite, in {where}",
            remedy="use an earlier checkpoint of that run",
        )


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


def damaged(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file that cannot be read, naming the usual reasons where the file shows one."""
    kind, remedy = _what_it_is(path)
    return CheckpointError(
        "the checkpoint file cannot be read: it is damaged, cut short, or not what its name says",
        wanted="a complete .safetensors or .npz file",
        found=f"{path}: {kind or error}",
        remedy=remedy,
    )


def _what_it_is(path: Path) -> tuple[str | None, str]:
    """Recognise what often lies in the place of weights; return it (None: none of that), and what to do."""
    size = path.stat().st_size if path.is_file() else None
    if size == 0:
        return "the file is empty (0 bytes)", REMEDY_DAMAGED
    if size is not None and is_lfs_pointer(path):
        return f"a Git-LFS pointer of {size} bytes, not the weights themselves", LFS_REMEDY
    return None, REMEDY_DAMAGED
