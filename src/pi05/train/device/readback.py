"""Numbers on their way from the device to the program, without a step that waits for them.

A GPU works behind the program. To read a value of step N when step N + 1 has been queued waits for both: the copy takes
its place at the end of the queue. So the copy is queued with its step, into page-locked memory, and an event behind it;
to wait for that event, a step later, leaves the next step running. Leaves out what the numbers mean.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Readback:
    """A few numbers that have been sent for; on a CPU they are there at once."""

    def __init__(self, numbers: Float[Tensor, " n"]) -> None:
        self._numbers = numbers
        self._arrived: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype).pin_memory()
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> list[float]:
        """Return the numbers; waits for what was queued before they were sent for, and for nothing after that."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [float(each) for each in self._numbers.tolist()]
