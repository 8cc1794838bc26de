"""Parts of a checkpoint as version 0.1 wrote them: `.metadata` and `*.distcp` of torch's distributed checkpoint.

`.metadata` is a pickle, which could run code when torch reads it. Here it is read by an unpickler that knows the few
classes that such a file consists of and refuses everything else; the tensors are read with torch's `weights_only`.
Files are those of the folder, whatever the metadata names. Nothing is written in this form any more (`parts.py`).
"""

from __future__ import annotations

import pathlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import metadata as classes
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo

from pi05.errors import CheckpointError
from pi05.train.parallel.parts import damaged

METADATA = ".metadata"
_TORCH: dict[str, Any] = {
    name: value
    for name in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "int8", "bool", "Size")
    if (value := getattr(torch, name)) is not None
}
_METADATA = (
    "Metadata",
    "TensorStorageMetadata",
    "TensorProperties",
    "ChunkStorageMetadata",
    "MetadataIndex",
    "StorageMeta",
    "_MEM_FORMAT_ENCODING",
)
ALLOWED: dict[tuple[str, str], Any] = {
    **{("torch", name): value for name, value in _TORCH.items()},
    **{("torch.distributed.checkpoint.metadata", name): getattr(classes, name) for name in _METADATA},
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): _StorageInfo,
    ("torch.serialization", "_get_layout"): lambda name: {"torch.strided": torch.strided}[name],
    ("pathlib", "PosixPath"): pathlib.PurePosixPath,
}
"""All that a metadata file of version 0.1 may name; neither can do more than hold values."""


class _Allowed(pickle.Unpickler):
    """Knows the classes of `ALLOWED` and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class, or raise UnpicklingError."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which has no business there")
        return ALLOWED[module, name]


class _Reader(dcp.FileSystemReader):
    """Torch's reader, with metadata that cannot run code."""

    def __init__(self, folder: Path, metadata: classes.Metadata) -> None:
        super().__init__(folder)
        self._checked = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> classes.Metadata:
        """Return the metadata that `read_checked_metadata` has read."""
        return self._checked


def is_of_0_1(folder: Path) -> bool:
    """Tell whether a folder of parts was written by version 0.1."""
    return (folder / METADATA).is_file()


def read_parts_of_0_1(folder: Path, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors as `parts.read_parts` does. Raises CheckpointError for what is damaged, or more than tensors."""
    metadata = read_checked_metadata(folder)
    found: dict[str, Any] = {}
    for label, kind in tensors_of(folder, metadata).items():
        parameter = names.get(label.rpartition("/")[2])
        if parameter is not None and parameter.shape == kind.size:
            found[label] = torch.empty_like(parameter.detach(), dtype=kind.properties.dtype)
        else:
            found[label] = torch.empty(kind.size, dtype=kind.properties.dtype)
    with warnings.catch_warnings():  # torch is surprised by one process; here it is a number like any other
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        try:
            dcp.load(found, storage_reader=_Reader(folder, metadata), no_dist=not dist.is_initialized())
        except CheckpointException as error:  # a BaseException, which nobody expects
            told = "; ".join(f"rank {rank}: {cause}" for rank, (cause, _) in sorted(error.failures.items()))
            raise damaged(folder, told.splitlines()[0]) from None
    return found


def read_checked_metadata(folder: Path) -> classes.Metadata:
    """Read `.metadata`. Raises CheckpointError unless it describes what lies in files of this folder."""
    try:
        with (folder / METADATA).open("rb") as file:
            metadata = _Allowed(file).load()
    except Exception as error:  # a damaged pickle shows in any exception
        raise damaged(folder, f"{METADATA}: {str(error) or type(error).__name__}") from error
    places = getattr(metadata, "storage_data", None)
    if type(metadata) is not classes.Metadata or type(places) is not dict:
        raise damaged(folder, f"{METADATA} is no description of a checkpoint")
    for place in places.values():
        name = place.relative_path if type(place) is _StorageInfo else None
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise damaged(folder, f"{METADATA} names {name!r}, which is no file of this folder")
    return metadata


def tensors_of(folder: Path, metadata: classes.Metadata) -> dict[str, classes.TensorStorageMetadata]:
    """Return what the metadata tells of each tensor. Raises CheckpointError for more than the files can hold."""
    found = {}
    for label, kind in metadata.state_dict_metadata.items():
        if not isinstance(kind, classes.TensorStorageMetadata) or not isinstance(kind.size, torch.Size):
            raise CheckpointError(f"{folder} holds {label}, which is no tensor", remedy="use another checkpoint")
        found[label] = kind
    announced = sum(kind.size.numel() * kind.properties.dtype.itemsize for kind in found.values())
    held = sum(path.stat().st_size for path in folder.glob("*.distcp"))
    if announced > held:
        raise damaged(folder, f"{announced:,} bytes of tensors in {held:,} bytes of files")
    return found
