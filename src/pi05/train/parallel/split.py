"""One network on several GPUs, from outside: each holds all of it (DDP), or a part of it (FSDP2, HSDP).

DDP averages gradients while the backward pass runs. FSDP splits every parameter, its gradient and its moments over all
GPUs and gathers one layer at a time; HSDP does that inside each machine and averages between machines.

The unit of FSDP is a layer: those of the language model and of the expert each on their own. Torch's grouped
`fully_shard([language layer, expert layer])` would free a language layer only when the expert's has run too. Here the
whole language stack runs before the expert, so all its layers would lie on every GPU at once
(docs/decisions/0006-many-gpus.md).

Matrices are gathered in the precision that they are multiplied in, the rest exactly (`gathering.py`): the same bits as
gathered in float32, so that N GPUs give the run of one. Gradients are summed in float32. Leaves out which of it a run
gets (`kind.py`), what is gathered how (`gathering.py`), the processes themselves (`ranks.py`) and the tensors' parts
(`shards.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from pi05.errors import ConfigError
from pi05.model.pi05 import Pi05
from pi05.train.parallel.gathering import units_of
from pi05.train.parallel.kind import Kind
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.shards import fill_from_first, own_part
from pi05.types import Batch

METHODS_OF_ROOT = ("loss", "sample_actions")
"""What is called on the network besides its layers; FSDP gathers the rest of the parameters for them."""


@dataclass(kw_only=True)
class Parallel:
    """How the forward and the backward pass of a step run on this run's processes."""

    ranks: Ranks = field(default_factory=Ranks)
    kind: Kind = "none"
    ddp: DistributedDataParallel | None = None

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the parameters only."""
        return self.kind in ("fsdp", "hsdp")

    def losses(self, model: nn.Module, last: bool, *arguments: Any, **options: Any) -> Float[Tensor, "B A X"]:
        """Return `model.loss(...)`. DDP exchanges gradients in the backward pass of the `last` forward pass only."""
        if self.ddp is None:
            return model.loss(*arguments, **options)  # type: ignore[operator]
        with nullcontext() if last else self.ddp.no_sync():
            return self.ddp(*arguments, **options)

    def finish(self, loss: Float[Tensor, ""], last: bool) -> None:
        """Run the backward pass. Gradients become means over the processes."""
        with nullcontext() if last or self.ddp is None else self.ddp.no_sync():
            loss.backward()


class LossModule(nn.Module):
    """The loss as a `forward`, which is the only method that DDP takes part in."""

    def __init__(self, model: Pi05) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: Batch, noise: Tensor, time: Tensor, flow_samples: int, delay: Tensor | None
    ) -> Float[Tensor, "B A X"]:
        """Return `model.loss(...)`."""
        return self.model.loss(batch, noise=noise, time=time, flow_samples=flow_samples, delay=delay)


def shard(model: Pi05, kind: Kind, ranks: Ranks) -> None:
    """Split a network whose parameters are on the `meta` device; then it has memory, but no values.

    Raises ConfigError for parameters that cannot be split.
    """
    odd = [name for name, value in model.named_parameters() if not value.is_floating_point()]
    odd += [name for name, _ in model.named_buffers()]
    if odd:
        raise ConfigError(
            f"a quantised base cannot be split over GPUs (--parallel={kind})",
            found=f"{len(odd)} tensors that are not floating-point parameters, {odd[0]} for one",
            remedy="use --parallel=ddp",
        )
    # Torch warns that an in-place change of a layer's output would be lost; the network makes none.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    device = ranks.device.type
    if kind == "hsdp":
        shape = (ranks.world.machines, ranks.world.per_machine)
        mesh = init_device_mesh(device, shape, mesh_dim_names=("replicate", "shard"))
    else:
        mesh = init_device_mesh(device, (ranks.world_size,), mesh_dim_names=("shard",))
    # The root comes first, or it would not look for its parameters inside of the layers.
    for unit in units_of(model):
        others = {value for name, value in model.named_parameters() if name not in unit.names}
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        if unit.rounded_to is not None:
            policy = replace(policy, param_dtype=unit.rounded_to, reduce_dtype=torch.float32)
        # Freed after each pass, or a measurement under the average would leave its values for the next step.
        fully_shard(unit.module, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=others)
        if not unit.in_backward:
            unit.module.set_unshard_in_backward(False)  # type: ignore[operator]
    for name in METHODS_OF_ROOT:
        register_fsdp_forward_method(model, name)
    for layer in model.expert.layers:
        register_fsdp_forward_method(layer, "modulate")  # sampling calls it for all its steps, ahead of them
    model.to_empty(device=ranks.device)


def spread(model: Pi05, source: Mapping[str, Tensor] | None, ranks: Ranks) -> None:
    """Give a split network rank 0's values, one tensor at a time: no GPU ever holds all of them."""
    fill_from_first(dict(model.named_parameters()), source, ranks.device)


def replicate(model: Pi05) -> DistributedDataParallel:
    """Wrap a network that every process holds; all get rank 0's values.

    Everything that is trained gets a gradient in every pass (`train_only`), so that DDP need not search for what gets
    none: the search copies from the GPU in each step and waits for it, and keeps the buckets in the order of the first.
    """
    return DistributedDataParallel(LossModule(model), gradient_as_bucket_view=True)


def bytes_on_rank(tensors: Mapping[str, Tensor]) -> int:
    """Return how much of these tensors this process holds."""
    return sum(own_part(tensor).nbytes for tensor in tensors.values())
