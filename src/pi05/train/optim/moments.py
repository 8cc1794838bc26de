"""Where AdamW's moments live: in float32 or packed, on the device or in host memory. Leaves out what moves them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pi05.train.optim.minifloat import Minifloat, Packed


class Moment:
    """One moment of one parameter, in float32 or packed, on the device or in host memory."""

    def __init__(self, parameter: Tensor, kind: Minifloat | None, offload: bool) -> None:
        self.kind = kind
        self.device = parameter.device
        self.count = parameter.numel()
        home = torch.device("cpu") if offload else parameter.device
        if kind is None:
            self.parts: tuple[Tensor, ...] = (torch.zeros(self.count, device=home),)
        else:
            self.parts = tuple(kind.zeros(self.count, home))
        if home != parameter.device:
            self.parts = tuple(part.pin_memory() for part in self.parts)

    @property
    def offloaded(self) -> bool:
        """Whether it is in host memory and its parameter is not."""
        return self.parts[0].device != self.device

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return sum(part.nbytes for part in self.parts)

    def read(self, start: int, count: int) -> Float[Tensor, " count"]:
        """Return `count` values from `start` on, in float32 on the parameter's device."""
        portion = [part.to(self.device, non_blocking=True) for part in self._cut(start, count)]
        return portion[0] if self.kind is None else self.kind.decode(Packed(*portion), count)

    def on_device(self, start: int, count: int) -> tuple[Tensor, ...]:
        """Return the parts of `count` values from `start` on: views of them, copies where they are in host memory."""
        return tuple(part.to(self.device, non_blocking=True).data for part in self._cut(start, count))

    def put_back(self, start: int, count: int, changed: tuple[Tensor, ...]) -> None:
        """Copy what `on_device` returned into host memory, if the moment is there."""
        for part, new in zip(self._cut(start, count), changed, strict=True):
            if part.device != new.device:
                part.copy_(new, non_blocking=True)

    def write(self, start: int, values: Float[Tensor, " count"], noise: Tensor | None) -> None:
        """Store values from `start` on."""
        packed = (values,) if self.kind is None or noise is None else self.kind.encode(values, noise)
        for part, new in zip(self._cut(start, len(values)), packed, strict=True):
            part.copy_(new, non_blocking=True)

    def _cut(self, start: int, count: int) -> list[Tensor]:
        if self.kind is None:
            return [self.parts[0][start : start + count]]
        sizes = zip(self.kind.packed_sizes(start), self.kind.packed_sizes(count), strict=True)
        return [part[first : first + size] for part, (first, size) in zip(self.parts, sizes, strict=True)]


@dataclass
class ParameterState:
    """What AdamW knows of one parameter."""

    first: Moment
    second: Moment
    steps: int = 0
