"""What a training step, a checkpoint and the planner ask of an optimizer, whichever it is.

`adamw.AdamW` is PyTorch's own, `low_memory.LowMemoryOptimizer` ours; `build.py` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from pi05.train.optim.adamw import Schedule


@runtime_checkable
class Optimizer(Protocol):
    """Moves named parameters along their gradients, clipped, at the rate of a schedule."""

    parameters: dict[str, nn.Parameter]
    schedule: Schedule

    @property
    def measures_first(self) -> bool:
        """Whether the next step needs a backward pass of its own beforehand, which only measures the norm."""
        ...

    @property
    def remark(self) -> str:
        """What the user should know of the update itself; empty where there is nothing."""
        ...

    def begin(self, update: int) -> None:
        """Forget the gradients (`zero_grad`); those that come belong to `update`, counted from 0."""
        ...

    def apply(self, update: int) -> tuple[Float[Tensor, ""], float]:
        """Take the step; return the gradient norm before clipping and the learning rate."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the next step depends on, by name."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned. Raises CheckpointError for names or shapes that do not fit."""
        ...

    def moment_bytes(self) -> int:
        """Return the bytes of all moments, those of parameters that have not moved yet included."""
        ...

    def make_moments(self) -> dict[str, list[Tensor]]:
        """Make the moments of every parameter now, which its first step would do; return them by parameter."""
        ...
