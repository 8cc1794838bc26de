"""Frozen weights stay as they are: their checksums before the first step, compared before every checkpoint is written.

A frozen weight that has moved makes a checkpoint that lacks something: LoRA's holds adapters only, and its base would
be another one than the one it was trained on. The sum is taken where the weights lie, over their bits, each with an odd
number of its place, so that any single change and any exchange of two values is found.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pi05.errors import TrainingError
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.shards import own_part

CHUNK = 1 << 22
"""Values that are summed at a time: 8 bytes each are needed for it."""
MIXER = 1_000_003
"""Odd; what a sum is multiplied with before the next chunk's is added."""
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class FrozenWatch:
    """Knows what the frozen weights were."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self._ranks = ranks
        self._frozen = frozen_tensors(model)
        self._before = checksums(self._frozen)

    def require_unmoved(self, step: int) -> None:
        """Raise TrainingError, the same in every process, where a frozen weight is not what it was."""
        now = checksums(self._frozen)
        moved = [name for name in now if now[name] != self._before[name]]
        found = next((each for each in self._ranks.gather(moved) if each), [])
        if found:
            more = f" and {len(found) - 3} more" * (len(found) > 3)
            raise TrainingError(
                f"a frozen weight has moved by step {step:,}; no checkpoint was written",
                wanted=f"{len(now)} frozen tensors as they were before the first step",
                found=f"other bits in {', '.join(found[:3])}{more}",
                remedy="something writes into the network's weights (a hook, faulty memory): resume from the last "
                "checkpoint, and report it if it comes again",
            )


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what training must not change, by name: parameters without gradients, and buffers."""
    parameters = {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}
    return {**parameters, **dict(model.named_buffers())}


def checksums(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the checksum of each tensor, of the part that this process holds."""
    sums = {name: checksum(own_part(value)) for name, value in tensors.items()}
    return {name: int(value) for name, value in sums.items()} if sums else {}


@torch.no_grad()
def checksum(tensor: Tensor) -> Int64[Tensor, ""]:
    """Return a checksum of the bits, on the device."""
    flat = tensor.detach().contiguous().flatten()
    bits = flat.view(BITS[flat.element_size()])
    places = torch.arange(min(CHUNK, max(bits.numel(), 1)), device=bits.device) * 2 + 1
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for part in bits.split(CHUNK):
        total = total * MIXER + (part.long() * places[: len(part)]).sum()  # wraps around at 64 bits
    return total
