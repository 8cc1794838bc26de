"""Write a .safetensors file tensor by tensor, so that no more than one of them is in memory beside the model.

The safetensors library wants all tensors at once, which for a 7 GB network under foreign names is a second network.
The bytes are those that the library would write: names sorted within an element type, larger types first, the header
padded with spaces to a multiple of 8 (format: https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pi05.files import replacing

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ORDER = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""The library puts element types in this order."""
ALIGNMENT = 8
CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is made when its turn comes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    """float32, bfloat16 or float16; what `make` returns is cast to it."""
    make: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor, dtype: torch.dtype | None = None) -> LazyTensor:
        """Wrap a tensor that is in memory already."""
        return cls(tuple(tensor.shape), dtype or tensor.dtype, lambda: tensor)

    @classmethod
    def changed(cls, tensor: Tensor, change: Callable[[Tensor], Tensor], dtype: torch.dtype) -> LazyTensor:
        """Wrap what `change` makes of a tensor that is in memory; it is made when it is written."""
        shape = tuple(change(torch.empty(tensor.shape, device="meta")).shape)
        return cls(shape, dtype, lambda: change(tensor))

    @property
    def bytes(self) -> int:
        """Size in the file."""
        count = 1
        for side in self.shape:
            count *= side
        return count * self.dtype.itemsize


def safetensors_bytes(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str] | None = None) -> int:
    """Return the size of the file that `write_safetensors` would write."""
    return len(_header(tensors, metadata)) + sum(tensor.bytes for tensor in tensors.values())


def write_safetensors(
    path: Path, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str] | None = None
) -> dict[str, str | int]:
    """Write the file, atomically, and return {"sha256", "bytes"} of it.

    Raises ValueError for a tensor whose shape is not the announced one or whose values are not finite, and OSError when
    the disk is full; in both cases there is no file, or the old one.
    """
    digest = hashlib.sha256()
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = _header(tensors, metadata)
        file.write(header)
        digest.update(header)
        for name in in_order(tensors):
            data = _bytes_of(name, tensors[name])
            for start in range(0, len(data), CHUNK_BYTES):
                piece = data[start : start + CHUNK_BYTES]
                file.write(piece)
                digest.update(piece)
        size = file.tell()
    return {"sha256": digest.hexdigest(), "bytes": size}


def in_order(tensors: Mapping[str, LazyTensor]) -> list[str]:
    """Return the names in the order in which they lie in the file."""
    return sorted(tensors, key=lambda name: (_ORDER[tensors[name].dtype], name.encode()))


def _header(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in in_order(tensors):
        tensor = tensors[name]
        end = offset + tensor.bytes
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _bytes_of(name: str, lazy: LazyTensor) -> memoryview:
    tensor = lazy.make().detach()
    if tuple(tensor.shape) != lazy.shape:
        raise ValueError(f"{name} is {list(tensor.shape)}, not {list(lazy.shape)}")
    tensor = tensor.to(device="cpu", dtype=lazy.dtype).contiguous()
    if tensor.numel() and not torch.isfinite(torch.stack(torch.aminmax(tensor))).all():
        raise ValueError(f"{name} holds NaN or infinite values in {lazy.dtype}")
    return tensor.reshape(-1).view(torch.uint8).numpy().data
