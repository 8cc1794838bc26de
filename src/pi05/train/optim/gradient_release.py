"""Clipping by the global norm when no gradient may wait for the others: each is used and freed as soon as it is there.

The exact norm is known only after the last gradient. So each one is scaled by limit / max(limit, p, s), with p the norm
of the step before and s the norm of this step's gradients so far, this one included. Hence:

- where neither this step's norm nor the one before is above the limit, nothing is scaled, as with exact clipping;
- no gradient of a parameter is ever larger than the limit;
- all together they are never larger than limit · sqrt(1 + 2 ln(n / m)) for a norm n above m = max(limit, p), and never
  larger than the limit for a smaller one. So a step a hundred times as large as the one before counts 3.2 limits.

The bound is the sum of aᵢ / max(m², a₁+…+aᵢ) over the squares aᵢ, which is at most 1 + ln(n² / m²). Before the first
step of a run there is no norm: a pass whose gradients are not used measures it. A resumed run has it in its checkpoint.
"""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor


class RunningNorm:
    """The norm of one step's gradients, which come one by one, and that of the step before."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.previous: Float32[Tensor, ""] | None = None
        """Norm of the last whole step; None before the first."""
        self._squares: Float32[Tensor, ""] | None = None

    def add(self, gradient: Tensor) -> None:
        """Count a gradient."""
        square = torch.linalg.vector_norm(gradient, dtype=torch.float32).square()
        self._squares = square if self._squares is None else self._squares + square

    def factor(self) -> Float32[Tensor, ""]:
        """Return by what the gradient that was added last is to be multiplied. Waits for no device."""
        if self._squares is None or self.previous is None:
            raise ValueError("there is no gradient, or no step before it")
        return (self.limit / torch.maximum(self._squares.sqrt(), self.previous)).clamp(max=1.0)

    def finish(self) -> Float32[Tensor, ""]:
        """End the step: return its norm, which is the previous one from now on."""
        if self._squares is None:
            raise ValueError("the step had no gradients")
        self.previous, self._squares = self._squares.sqrt(), None
        return self.previous
