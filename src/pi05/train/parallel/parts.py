"""Tensors of a split network on disk, each process writing what it holds; any number of processes reads them.

    parts/part-00000.safetensors  part-00001.safetensors …      one file per process that holds something

A file is plain safetensors. Its header's metadata says of each tensor the shape of the whole and where this part lies
in it, as JSON: nothing that is read here can run code. Parts that version 0.1 wrote are read by `parts_of_0_1.py`.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from pi05.checkpoint.safetensors_writer import LazyTensor, write_safetensors
from pi05.errors import CheckpointError
from pi05.files import parse_json
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.shards import own_part

VERSION, KEY = 1, "pi05_parts"
PATTERN = "part-*.safetensors"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Where a part of a tensor lies: in which file, and at which place of the whole."""

    file: Path
    shape: tuple[int, ...]
    offset: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A tensor in pieces."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: list[Piece]


def write_part(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write what this process holds of `tensors`; every process calls this, `folder` is there.

    Raises OSError, the same one in every process, when the disk of one of them is full.
    """
    held: dict[str, LazyTensor] = {}
    places: dict[str, dict[str, list[int]]] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            if not _writes(tensor):
                continue
            shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
            if math.prod(shape) == 0:
                continue
        elif ranks.first:
            offset = (0,) * tensor.ndim
        else:
            continue
        held[name] = LazyTensor.of(own_part(tensor.detach()))
        places[name] = {"shape": list(tensor.shape), "offset": list(offset)}
    failure: tuple[int, str] | None = None
    try:
        path = folder / PATTERN.replace("*", f"{ranks.rank:05d}")
        write_safetensors(path, held, {KEY: json.dumps({"version": VERSION, "tensors": places})})
    except OSError as error:
        failure = (error.errno or errno.EIO, f"rank {ranks.rank}: {error}")
    failed = [each for each in ranks.gather(failure) if each is not None]
    if failed:
        raise OSError(failed[0][0], "; ".join(text for _, text in failed))


def _writes(tensor: DTensor) -> bool:
    """Tell whether this process writes its part: of several that hold the same one, the first does."""
    mesh = tensor.device_mesh
    return all(
        placement.is_shard() or mesh.get_local_rank(dimension) == 0
        for dimension, placement in enumerate(tensor.placements)
    )


def read_parts(folder: Path, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of a folder of parts: split as the parameter of their name is, or whole.

    `names` are the parameters; a tensor `exp_avg/NAME` is split as NAME where it has its shape. Raises CheckpointError
    for parts that are damaged or do not make up the whole.
    """
    found: dict[str, Tensor] = {}
    for label, whole in _index(folder).items():
        parameter = names.get(label.rpartition("/")[2])
        if isinstance(parameter, DTensor) and tuple(parameter.shape) == whole.shape:
            shape, offset = compute_local_shape_and_global_offset(
                parameter.shape, parameter.device_mesh, parameter.placements
            )
            local = _read(label, whole, tuple(shape), tuple(offset)).to(own_part(parameter).device)
            found[label] = DTensor.from_local(
                local,
                parameter.device_mesh,
                parameter.placements,
                run_check=False,
                shape=parameter.shape,
                stride=parameter.stride(),
            )
        else:
            found[label] = _read(label, whole, whole.shape, (0,) * len(whole.shape))
    return found


def _index(folder: Path) -> dict[str, Whole]:
    """Return all tensors with their pieces. Raises CheckpointError unless the pieces make up each of them."""
    found: dict[str, Whole] = {}
    files = sorted(folder.glob(PATTERN))
    if not files:
        raise damaged(folder, f"no {PATTERN}")
    for file in files:
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                places = _places(file, (opened.metadata() or {}).get(KEY, ""), set(opened.keys()))
                for label, (shape, offset) in places.items():
                    entry = opened.get_slice(label)
                    size, dtype = tuple(entry.get_shape()), opened.get_tensor(label).dtype
                    fits = len(size) == len(shape) and all(
                        start + side <= limit for start, side, limit in zip(offset, size, shape, strict=True)
                    )
                    whole = found.setdefault(label, Whole(shape=shape, dtype=dtype, pieces=[]))
                    if not fits or (whole.shape, whole.dtype) != (shape, dtype):
                        raise damaged(folder, f"{label} in {file.name} does not fit its whole, {list(shape)}")
                    whole.pieces.append(Piece(file=file, shape=size, offset=offset))
        except (OSError, safetensors.SafetensorError) as error:
            raise damaged(folder, f"{file.name}: {error}") from error
    for label, whole in found.items():
        held = sum(math.prod(piece.shape) for piece in whole.pieces)
        if held != math.prod(whole.shape):
            raise damaged(folder, f"{held:,} of {math.prod(whole.shape):,} values of {label}")
        if any(_overlap(one, other) for one, other in itertools.combinations(whole.pieces, 2)):
            raise damaged(folder, f"parts of {label} that overlap")
    return found


def _overlap(one: Piece, other: Piece) -> bool:
    """Tell whether two parts of a tensor have a place in common."""
    return all(
        max(a, b) < min(a + n, b + m)
        for a, n, b, m in zip(one.offset, one.shape, other.offset, other.shape, strict=True)
    )


def _places(file: Path, text: str, labels: set[str]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Read shape of the whole and offset of each tensor. Raises CheckpointError for anything else than that."""
    try:
        told: Any = parse_json(text)
    except ValueError as error:
        raise damaged(file.parent, f"{file.name} does not say what its tensors are parts of") from error
    tensors = told.get("tensors") if isinstance(told, dict) and told.get("version") == VERSION else None
    if not isinstance(tensors, dict) or set(tensors) != labels:
        raise damaged(file.parent, f"{file.name} tells of other tensors than it holds")
    places = {}
    for label, place in tensors.items():
        shape, offset = (_counts(place, name) for name in ("shape", "offset"))
        if shape is None or offset is None or len(shape) != len(offset):
            raise damaged(file.parent, f"{file.name} does not say where {label} lies")
        places[label] = (shape, offset)
    return places


def _counts(place: Any, name: str) -> tuple[int, ...] | None:
    """Return a list of whole numbers from 0 on; None where it is anything else."""
    values = place.get(name) if isinstance(place, dict) else None
    sound = isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
    return tuple(values) if sound and isinstance(values, list) else None


def _read(label: str, whole: Whole, shape: tuple[int, ...], offset: tuple[int, ...]) -> Tensor:
    """Read the block of `shape` at `offset` out of the pieces that overlap it."""
    block = torch.empty(shape, dtype=whole.dtype)
    for piece in whole.pieces:
        ranges = [
            (max(a, b), min(a + n, b + m)) for a, n, b, m in zip(offset, shape, piece.offset, piece.shape, strict=True)
        ]
        if any(start >= end for start, end in ranges):
            continue
        with safetensors.safe_open(piece.file, framework="pt") as opened:
            if not shape:
                return opened.get_tensor(label)
            there = tuple(slice(s - o, e - o) for (s, e), o in zip(ranges, piece.offset, strict=True))
            here = tuple(slice(s - o, e - o) for (s, e), o in zip(ranges, offset, strict=True))
            block[here] = opened.get_slice(label)[there]
    return block


def damaged(folder: Path, found: str) -> CheckpointError:
    """Return what the user is told of parts that cannot be read."""
    return CheckpointError(
        f"the parts in {folder} are damaged or incomplete",
        found=found,
        remedy="use another checkpoint of the run, or copy it again",
    )
