"""Moments of AdamW in 8 or 4 bits: tiny floating-point numbers with one scale for each block, rounded by chance.

Rounding to the nearest would let a moment stand still: with a decay rate of 0.95 it changes by at most 5 % in a step,
less than the codes' spacing. A second moment never becomes 0 beside others that are not: dividing by it would give
steps of any size (measured for torchao's codes: 12 times the largest step of float32; docs/decisions/).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int32
from torch import Tensor
from torch.nn.functional import pad

_MANTISSA = 23
"""Bits of float32's mantissa."""
_BIAS = 127
"""What is added to its exponent."""


class Packed(NamedTuple):
    """Codes (two to a byte where they have 4 bits) and the largest magnitude of each block over the largest code."""

    codes: Tensor
    scales: Tensor


@dataclass(frozen=True, kw_only=True)
class Minifloat:
    """A format: exponent and mantissa bits, below the smallest exponent a linear range, as in IEEE 754."""

    exponent_bits: int
    mantissa_bits: int
    signed: bool
    block: int

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.exponent_bits + self.mantissa_bits + self.signed

    @property
    def _magnitudes(self) -> int:
        return 2 ** (self.exponent_bits + self.mantissa_bits)

    @property
    def _smallest_normal(self) -> float:
        return 2.0 ** (2 - 2**self.exponent_bits)

    @property
    def largest(self) -> float:
        """The value of the largest code; the largest exponent is 0."""
        return 2 - 2.0**-self.mantissa_bits

    def packed_sizes(self, count: int) -> tuple[int, int]:
        """Return how many bytes of codes and how many scales `count` values take."""
        blocks = -(-count // self.block)
        return blocks * self.block * self.bits // 8, blocks

    def zeros(self, count: int, device: torch.device | str) -> Packed:
        """Return `count` zeros, packed."""
        codes, blocks = self.packed_sizes(count)
        return Packed(
            torch.zeros(codes, dtype=torch.uint8, device=device),
            torch.zeros(blocks, dtype=torch.float32, device=device),
        )

    def encode(self, values: Float32[Tensor, " n"], noise: Int32[Tensor, " n"]) -> Packed:
        """Round by chance with the lowest 16 bits of `noise`; the last block is filled up with zeros."""
        missing = -len(values) % self.block
        if missing:
            values, noise = pad(values, (0, missing)), pad(noise, (0, missing))
        magnitude = values.abs().view(-1, self.block)
        scales = magnitude.amax(dim=1) / self.largest
        scaled = magnitude / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        codes = self._round(scaled.view(-1), noise)
        if self.signed:
            codes = torch.where(values < 0, codes + self._magnitudes, codes)
        if self.bits == 4:
            pairs = codes.view(-1, 2)
            codes = pairs[:, 0] | (pairs[:, 1] << 4)
        return Packed(codes.to(torch.uint8), scales)

    def _round(self, scaled: Float32[Tensor, " n"], noise: Int32[Tensor, " n"]) -> Int32[Tensor, " n"]:
        """Return the codes of magnitudes: exponent and upper mantissa bits of float32, after the noise was carried.

        Below the smallest normal number, adding it to the value turns float32's mantissa into a linear scale.
        """
        smallest, dropped = self._smallest_normal, _MANTISSA - self.mantissa_bits
        first = (_BIAS + 2 - 2**self.exponent_bits) << _MANTISSA  # the bits of `smallest`
        normal = scaled >= smallest
        # The sign of a NaN, which differs from device to device, goes: it gets the largest code.
        raw = torch.where(normal, scaled, scaled + smallest).abs_().view(torch.int32) - first
        codes = (raw + ((noise & 0xFFFF) << (dropped - 16))) >> dropped
        codes = torch.where(normal, codes + 2**self.mantissa_bits, codes)
        return codes.clamp(min=0 if self.signed else 1, max=self._magnitudes - 1)

    def decode(self, packed: Packed, count: int) -> Float32[Tensor, " count"]:
        """Return the first `count` values."""
        return self.decode_with(self.table(packed.codes.device), packed, count)

    def decode_with(self, table: Float32[Tensor, " codes"], packed: Packed, count: int) -> Float32[Tensor, " count"]:
        """Return the first `count` values by the table of all codes: for compiled code, which has no cache."""
        codes = packed.codes
        if self.bits == 4:
            codes = torch.stack([codes & 0xF, codes >> 4], dim=1).view(-1)
        values = table[codes.int()]
        return (values.view(-1, self.block) * packed.scales[:, None]).view(-1)[:count]

    def table(self, device: torch.device) -> Float32[Tensor, " codes"]:
        """Return the value of every code, made once."""
        return _table_of(self, device)


@functools.cache
def _table_of(kind: Minifloat, device: torch.device) -> Tensor:
    """Return the value of every code."""
    steps = 2**kind.mantissa_bits
    code = torch.arange(2 ** (kind.exponent_bits + kind.mantissa_bits), dtype=torch.float64)
    exponent = (code // steps).clamp(min=1) - 1
    mantissa = torch.where(code < steps, code / steps, 1 + code % steps / steps)
    positive = mantissa * kind._smallest_normal * torch.exp2(exponent)
    values = torch.cat([positive, -positive]) if kind.signed else positive
    return values.to(device, torch.float32)


FORMATS = {
    "8bit": (
        Minifloat(exponent_bits=3, mantissa_bits=4, signed=True, block=256),
        Minifloat(exponent_bits=4, mantissa_bits=4, signed=False, block=256),
    ),
    "4bit": (
        Minifloat(exponent_bits=2, mantissa_bits=1, signed=True, block=32),
        Minifloat(exponent_bits=3, mantissa_bits=1, signed=False, block=32),
    ),
}
"""First and second moment. Chosen by how far 60 steps end from those of float32 (docs/decisions/)."""

SMALLEST = 4096
"""Tensors with fewer values keep float32 moments: they cost nothing."""
