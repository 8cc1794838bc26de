"""Rounding up or down by chance, so that what is rounded away is right on average.

The random bits of an element follow from seed, update, parameter name and the element's index, through an integer hash.
A resumed run draws the same ones, and so does a run that works through a parameter in other portions. The global random
state is neither read nor moved. Leaves out what is rounded: weights (`low_memory.py`) and moments (`minifloat.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import BFloat16, Float32, Int32
from torch import Tensor

USES = ("weight and first", "second")
"""What the random bits of a parameter are for; the two parts of its keys' names."""
_START, _FACTOR = 0x43B0D7E5, 0x931E8875
_START_OUT, _FACTOR_OUT = 0x8B51F9DD, 0x58F38DED
_LEFT, _RIGHT, _POOL = 0xCA01F9DD, 0x4973F715, 4
"""Constants of NumPy's SeedSequence, which its documentation promises to keep."""
Words = npt.NDArray[np.uint32]


def rounding_key(seed: int, update: int, name: str) -> tuple[int, int]:
    """Return two int32 that no other update, parameter or seed shares, but by accident."""
    sequence = np.random.SeedSequence((seed, update, zlib.crc32(name.encode())))
    first, second = sequence.generate_state(2, np.uint32).view(np.int32)
    return int(first), int(second)


def rounding_keys(seed: int, update: int, names: Sequence[str]) -> Int32[np.ndarray, "names 2"]:
    """Return `rounding_key` of many names at once: NumPy's SeedSequence, in columns (1,600 names: 14 ms one by one)."""
    checksums = np.array([zlib.crc32(name.encode()) for name in names], np.uint32)
    known = [np.full(len(names), word, np.uint32) for number in (seed, update) for word in _words(number)]
    entropy = [*known, checksums]
    entropy += [np.zeros_like(checksums)] * (_POOL - len(entropy))
    factor = _START

    def mixed_in(values: Words) -> Words:
        nonlocal factor
        values = values ^ np.uint32(factor)
        factor = factor * _FACTOR & 0xFFFFFFFF
        return _fold(values * np.uint32(factor))

    def mix(one: Words, other: Words) -> Words:
        return _fold(np.uint32(_LEFT) * one - np.uint32(_RIGHT) * other)

    pool = [mixed_in(values) for values in entropy[:_POOL]]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = mix(pool[target], mixed_in(pool[source]))
    for values in entropy[_POOL:]:
        pool = [mix(each, mixed_in(values)) for each in pool]
    found, factor = [], _START_OUT
    for values in pool[:2]:
        values = values ^ np.uint32(factor)
        factor = factor * _FACTOR_OUT & 0xFFFFFFFF
        found.append(_fold(values * np.uint32(factor)))
    return np.stack(found, axis=1).view(np.int32)


def _fold(values: Words) -> Words:
    return values ^ (values >> np.uint32(16))


def _words(number: int) -> list[int]:
    """Return a number's 32-bit words, the lowest first; 0 has one."""
    words = [number & 0xFFFFFFFF]
    while number := number >> 32:
        words.append(number & 0xFFFFFFFF)
    return words


class KeyTable:
    """The rounding keys of all parameters in a step, made and copied at once. Nothing here waits for the device."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._rows = {name: row for row, name in enumerate(names)}
        self._labels = [f"{name}/{use}" for name in names for use in USES]
        self._seed = seed
        self._update: int | None = None
        self._keys: Tensor | None = None

    def of(self, name: str, update: int, device: torch.device) -> Int32[Tensor, 4]:
        """Return the keys of a parameter for both `USES`: a row of the table."""
        if self._keys is None or self._update != update:
            host = torch.from_numpy(rounding_keys(self._seed, update, self._labels).reshape(-1, 2 * len(USES)))
            if device.type == "cuda":
                host = host.pin_memory()
            self._keys, self._update = host.to(device, non_blocking=True), update
        return self._keys[self._rows[name]]


def random_bits(index: Int32[Tensor, " n"], key: tuple[int, int] | tuple[Tensor, Tensor]) -> Int32[Tensor, " n"]:
    """Return 32 random bits for each index: the mixing function lowbias32 (C. Wellons), with the key in two places.

    int32 products wrap in PyTorch on every device, and `>>` keeps the sign, hence the masks.
    """
    x = index ^ key[0]
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) ^ key[1]
    x = x * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)


def round_to_bfloat16(values: Float32[Tensor, " n"], noise: Int32[Tensor, " n"]) -> BFloat16[Tensor, " n"]:
    """Round to one of the two neighbours in bfloat16, to the nearer with the larger probability.

    The lowest 16 bits of `noise` decide: added to the 16 bits that bfloat16 lacks, they carry over as often as these
    are large. Infinity and NaN stay what they are; their bits must not carry.
    """
    carried = (values.view(torch.int32) + (noise & 0xFFFF)) & -0x10000
    return torch.where(values.isfinite(), carried.view(torch.float32), values).to(torch.bfloat16)
