"""Rounding up or down by chance, so that what is rounded away is right on average.

The random bits of an element follow from seed, update, parameter name and the element's index, through an integer hash.
A resumed run draws the same ones, and so does a run that works through a parameter in other portions. The global random
state is neither read nor moved. Leaves out what is rounded: weights (`low_memory.py`) and moments (`minifloat.py`).
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from jaxtyping import BFloat16, Float32, Int32
from torch import Tensor


def rounding_key(seed: int, update: int, name: str) -> tuple[int, int]:
    """Return two int32 that no other update, parameter or seed shares, but by accident."""
    sequence = np.random.SeedSequence((seed, update, zlib.crc32(name.encode())))
    first, second = sequence.generate_state(2, np.uint32).view(np.int32)
    return int(first), int(second)


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
