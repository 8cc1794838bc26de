"""Arrays of an orbax checkpoint folder, as openpi's JAX half writes them, read through `tensorstore` without JAX.

    params/        _METADATA  manifest.ocdbt  d/  ocdbt.process_N/     one key-value database (OCDBT) of zarr arrays
    train_state/   the same, with the raw weights under "params." beside the optimizer's state

A key is the leaf's path joined by dots, with or without a last "value" (`params.time_mlp_in.bias.value/.zarray`).
Opening reads names and shapes only. The stacked leaves (18 layers in one array) are read layer by layer, with the files
memory-mapped: in memory is at most one decoded leaf, and of a leaf that was written in one chunk per layer one layer.
Only this module knows tensorstore. Leaves out what the leaves mean (`jax_names.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pi05.checkpoint.openpi.jax_names import tidy_name
from pi05.checkpoint.openpi.orbax_fields import ZARR, ItemMetadata, TreeMetadata
from pi05.checkpoint.tensors import LFS_REMEDY, Index, hash_file, require_weights
from pi05.errors import CheckpointError
from pi05.files import is_lfs_pointer, parse_json, parse_object
from pi05.settings.fields import find_fault

ITEM_METADATA, MANIFEST = "_METADATA", "manifest.ocdbt"
PARAMS = "params."
ARRAY_METADATA = {".zarray": "zarr", "zarr.json": "zarr3"}
LARGEST_NUMBER = 4
"""Bytes of a float32, the widest type that openpi stores."""
CACHE_SLACK = 1.25
"""tensorstore counts its own bookkeeping, too; a chunk over the limit would be decoded again for every layer."""
REQUIREMENT = "tensorstore>=0.1.86"
REMEDY = "copy or download the whole folder again, or use another step"


def is_orbax(folder: Path) -> bool:
    """Say whether a folder is an item that orbax wrote."""
    return (folder / ITEM_METADATA).is_file() or (folder / MANIFEST).is_file()


def holds_params(folder: Path) -> bool:
    """Say whether a `train_state` item holds weights. Without an EMA openpi leaves them to `params` and stores {}."""
    try:
        described = parse_object(folder / ITEM_METADATA)
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{ITEM_METADATA}: {error}") from error
    _require(TreeMetadata, described, folder, ITEM_METADATA)
    ways = [entry["key_metadata"] for entry in described["tree_metadata"].values()]
    return any(way[0]["key"] == "params" and len(way) > 1 for way in ways)


@dataclass(frozen=True)
class _Leaf:
    """One zarr array of the database."""

    key: str
    driver: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    absent_chunks: int


class OrbaxFiles:
    """The weights in one orbax item; what else it holds (optimizer state, step) is named in `aside`."""

    merged: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tensorstore = _import_tensorstore()
        self._leaves, self.aside = self._open()
        self.shapes = {name: leaf.shape for name, leaf in self._leaves.items()}
        self.notes = self._account_for_chunks()

    def _open(self) -> tuple[dict[str, _Leaf], dict[str, str]]:
        """Return the weights by tidy name, and the groups of arrays that are none."""
        arrays = self._arrays()
        if not arrays:
            raise _damaged(self.folder, "no arrays in it")
        chosen = [key for key in arrays if key.startswith(PARAMS)] or list(arrays)
        groups: dict[str, int] = {}
        for key in set(arrays) - set(chosen):
            group = key.partition(".")[0]
            groups[group] = groups.get(group, 0) + 1
        aside = {group: f"{count} array(s) of training state, not weights" for group, count in sorted(groups.items())}
        leaves: dict[str, _Leaf] = {}
        for key in chosen:
            name = tidy_name(key.replace(".", "/"))
            if name in leaves:
                raise _damaged(self.folder, f"two arrays for the leaf {name}: {leaves[name].key} and {key}")
            leaves[name] = arrays[key]
        return leaves, aside

    def _arrays(self) -> dict[str, _Leaf]:
        """Return every array of the database: its metadata is read, its values are not."""
        try:
            store = self._tensorstore.KvStore.open(self._store("")).result()
            keys = [key.decode() for key in store.list().result()]
            stored: dict[str, int] = {}
            for key in keys:
                array = key.rpartition("/c/")[0] or key.rpartition("/")[0]
                stored[array] = stored.get(array, 0) + 1
            arrays = {}
            for key in keys:
                array, _, file = key.rpartition("/")
                if file in ARRAY_METADATA:
                    driver, content = ARRAY_METADATA[file], bytes(store.read(key).result().value)
                    described = self._described(key, content, ZARR[driver])
                    arrays[array] = _leaf(key, driver, described, stored[array] - 1)
            return arrays
        except (ValueError, OSError) as error:
            raise _damaged(self.folder, error) from error

    def _described(self, key: str, content: bytes, kind: Any) -> dict[str, Any]:
        """Parse and check what describes an array."""
        try:
            described: dict[str, Any] = parse_json(content.decode("utf-8"))
        except ValueError as error:
            raise _damaged(self.folder, f"{key}: {error}") from error
        _require(kind, described, self.folder, key)
        return described

    def _store(self, path: str) -> dict[str, Any]:
        """Return tensorstore's description of the database; folders of older orbax are plain files."""
        files = {"driver": "file", "path": f"{self.folder.resolve()}/"}
        if (self.folder / MANIFEST).is_file():
            return {"driver": "ocdbt", "base": files, "path": path}
        return {**files, "path": f"{files['path']}{path}"}

    def _account_for_chunks(self) -> list[str]:
        """Refuse a folder with holes. tensorstore reads an absent chunk as zeros, which some writers leave out."""
        holes = {name: leaf.absent_chunks for name, leaf in self._leaves.items() if leaf.absent_chunks > 0}
        if not holes:
            return []
        listed = ", ".join(f"{name} ({count})" for name, count in list(holes.items())[:4])
        if _stores_all_chunks(self.folder):
            raise _damaged(self.folder, f"chunks are missing: {listed}")
        return [f"chunks that orbax left out as zeros: {listed}" + (" and more" if len(holes) > 4 else "")]

    def read(self, name: str) -> Tensor:
        """Return one leaf. Raises CheckpointError when it cannot be read, is not floating point or not finite."""
        return next(self.parts(name, [()]))

    def parts(self, name: str, indices: Sequence[Index]) -> Iterator[Tensor]:
        """Yield parts of one leaf, one at a time; raises as `read`."""
        leaf = self._leaves[name]
        try:
            array = self._open_array(leaf, indices)
            for index in indices:
                yield self._part(name, array, index)
        except (ValueError, OSError) as error:
            raise _damaged(self.folder, f"{name}: {error}") from error

    def _part(self, name: str, array: Any, index: Index) -> Tensor:
        tensor = _to_torch(array[index].read(order="C").result())
        require_weights(name, tensor, self.folder)
        return tensor

    def _open_array(self, leaf: _Leaf, indices: Sequence[Index]) -> Any:
        """Open one leaf; what several parts share is kept decoded as long as the array is open."""
        axes = len(indices[0])
        decoded = math.prod(leaf.chunks[:axes]) * math.prod(leaf.shape[axes:]) * LARGEST_NUMBER
        shared = math.prod(leaf.chunks[:axes]) > 1
        context = {
            "cache_pool": {"total_bytes_limit": int(CACHE_SLACK * decoded) if shared else 0},
            "data_copy_concurrency": {"limit": 1},
            "file_io_mode": {"mode": "memmap"},
        }
        description = {"driver": leaf.driver, "kvstore": self._store(leaf.key + "/")}
        opened = self._tensorstore.open(
            {**description, "recheck_cached_data": False, "recheck_cached_metadata": False},
            context=self._tensorstore.Context(context),
            open=True,
            read=True,
        )
        return opened.result()

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self._files())

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file, by its path inside the folder."""
        return {path.relative_to(self.folder).as_posix(): hash_file(path) for path in self._files()}

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def _leaf(key: str, driver: str, described: Mapping[str, Any], stored: int) -> _Leaf:
    """Read zarr's description of an array, which lies at `key`; `stored` is the number of its chunks that are there."""
    shape = tuple(described["shape"])
    grid = described["chunks"] if driver == "zarr" else described["chunk_grid"]["configuration"]["chunk_shape"]
    chunks = tuple(grid)
    if len(chunks) != len(shape):
        raise ValueError(f"{key}: {len(shape)} sides, in chunks of {len(chunks)}")
    wanted = math.prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    return _Leaf(key.rpartition("/")[0], driver, shape, chunks, wanted - stored)


def _stores_all_chunks(folder: Path) -> bool:
    """Say whether the writer promised to store every chunk, zeros too; older versions of orbax did not."""
    if not (folder / ITEM_METADATA).is_file():
        return False
    try:
        described = parse_object(folder / ITEM_METADATA)
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{ITEM_METADATA}: {error}") from error
    _require(ItemMetadata, described, folder, ITEM_METADATA)
    return described.get("store_array_data_equal_to_fill_value") is True


def _require(kind: Any, described: Any, folder: Path, file: str) -> None:
    """Raise CheckpointError for the first field of a file that has a wrong type or an impossible value."""
    if (fault := find_fault(kind, described)) is not None:
        raise _damaged(folder, f"{file}: {fault.field or 'the file'} is {fault.found}, not {fault.wanted}")


def _to_torch(array: Any) -> Tensor:
    """Return a NumPy array as a tensor without a copy; bfloat16, which NumPy has not, is a type of ml_dtypes."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _import_tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise CheckpointError(
            "reading openpi's JAX checkpoints (orbax) needs a package that is not installed",
            wanted=REQUIREMENT,
            found=str(error),
            remedy=f"pip install '{REQUIREMENT}'",
        ) from error
    return tensorstore


def _damaged(folder: Path, error: Exception | str) -> CheckpointError:
    pointer = next((path for path in folder.rglob("*") if path.is_file() and is_lfs_pointer(path)), None)
    text = " ".join(str(error).split())[:400]
    return CheckpointError(
        "the JAX checkpoint folder cannot be read: files are missing, cut short or damaged",
        wanted="a complete folder that orbax wrote",
        found=f"{folder}: {text}" if pointer is None else f"a Git-LFS pointer in the place of {pointer}",
        remedy=REMEDY if pointer is None else LFS_REMEDY,
    )
