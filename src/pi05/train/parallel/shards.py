"""Tensors of which each process holds a part (FSDP's `DTensor`): own part, norms, and the way from and to whole ones.

Every function takes whole tensors too, and then does what one would write without distribution, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Tell whether these tensors are split over processes. All are, or none."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def own_part(tensor: Tensor) -> Tensor:
    """Return the part that this process holds, as a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def global_norm(tensors: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return the norm of all values together, in float32 whatever their precision. Waits for no device."""
    norms = torch.stack(torch._foreach_norm([own_part(tensor) for tensor in tensors], 2, torch.float32))
    if not is_sharded(tensors):
        return torch.linalg.vector_norm(norms)
    squares = norms.square().sum()
    group = shard_group(tensors[0])
    if group is not None:
        dist.all_reduce(squares, group=group)
    return squares.sqrt()


def shard_group(tensor: Tensor) -> dist.ProcessGroup | None:
    """Return the processes that hold one whole tensor together."""
    if not isinstance(tensor, DTensor):
        return None
    (dimension,) = (index for index, placement in enumerate(tensor.placements) if isinstance(placement, Shard))
    return tensor.device_mesh.get_group(dimension)


def shard_like(tensor: DTensor, whole: Tensor) -> Tensor:
    """Return this process's part of `whole`, split as `tensor` is. Nobody is asked."""
    mesh, placements = tensor.device_mesh, tensor.placements
    return distribute_tensor(whole.to(mesh.device_type), mesh, placements, src_data_rank=None).to_local()


@torch.no_grad()
def fill(tensor: Tensor, whole: Tensor) -> None:
    """Copy `whole`, which every process has, into a tensor that may be split."""
    if isinstance(tensor, DTensor):
        tensor.to_local().copy_(shard_like(tensor, whole))
    else:
        tensor.copy_(whole)


@torch.no_grad()
def fill_from_first(tensors: Mapping[str, Tensor], source: Mapping[str, Tensor] | None, device: torch.device) -> None:
    """Fill the split `tensors` with rank 0's `source`, one whole tensor at a time on `device`."""
    for name, tensor in tensors.items():
        if source is None:
            whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        else:
            whole = source[name].detach().to(device, tensor.dtype).contiguous()
        dist.broadcast(whole, src=0)
        fill(tensor, whole)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; every process has to take part."""
    value = tensor.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def exchange(left: Tensor, right: Tensor) -> None:
    """Swap the values of two tensors that are split alike."""
    one, other = own_part(left.detach()), own_part(right.detach())
    kept = one.clone()
    one.copy_(other)
    other.copy_(kept)
