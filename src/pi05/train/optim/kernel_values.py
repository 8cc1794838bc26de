"""What one launch of the update's kernels reads and writes. Needs no Triton, so that the planner can count it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float32, Int32
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Values:
    """What one update reads and writes, flat and on one device: a parameter or a part of it."""

    weight: Tensor
    gradient: Tensor
    first: tuple[Tensor, ...]
    """The parts of the first moment: values in float32, or codes and scales."""
    second: tuple[Tensor, ...]
    factor: Float32[Tensor, ""]
    """What the gradient is multiplied by."""
    keys: Int32[Tensor, 4]
    """Of the random bits: for weight and first moment, for the second."""

    @property
    def moved_bytes(self) -> int:
        """Bytes that the kernel reads and writes: the gradient once, everything else twice."""
        return self.gradient.nbytes + 2 * sum(each.nbytes for each in (self.weight, *self.first, *self.second))
