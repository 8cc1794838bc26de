"""How a network lies on the GPUs of a run: what `--parallel` means, and by how many GPUs each kind divides. Torch-free.

The run itself and the prediction of its memory ask the same functions. Leaves out how a network is split (`split.py`)
and what cannot be combined with that (`train/exclusions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pi05.train.config import TrainConfig
else:  # the configuration's exclusions ask this module, so it cannot be imported here
    TrainConfig = Any

Kind = Literal["none", "ddp", "fsdp", "hsdp"]
"""none: one process. ddp: the whole network on each GPU (data parallel). fsdp: parameters, gradients and moments are
sharded over all GPUs. hsdp: sharded inside each machine, replicated between machines."""
SHARE_OF_MEMORY = 0.5
"""`auto` lets a GPU hold weights, gradients, moments and average while they take less than this share of its memory."""
USUAL_PER_MACHINE = 8
"""GPUs in a machine where nothing tells."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The GPUs of a run."""

    gpus: int = 1
    per_machine: int = 1
    """GPUs in a machine; where machines differ, those of the smallest."""

    @classmethod
    def planned(cls, gpus: int, per_machine: int | None = None) -> World:
        """Return the world of a run that is planned: machines of eight where nothing tells."""
        return cls(gpus=gpus, per_machine=min(gpus, per_machine or USUAL_PER_MACHINE))

    @property
    def machines(self) -> int:
        """Machines of the run."""
        return -(-self.gpus // self.per_machine)

    @property
    def even(self) -> bool:
        """Whether all machines can have the same number of GPUs."""
        return self.gpus % self.per_machine == 0


def held_bytes(config: TrainConfig, *, parameters: int, trained: int) -> int:
    """Return the bytes of weights, gradients, AdamW's moments and average on a GPU that holds them whole.

    Of `parameters` values `trained` are trained, in float32; this is for the settings that can be split.
    """
    frozen = 2 if config.uses_adapters and config.precision == "mixed" else 4
    return frozen * (parameters - trained) + (16 + 4 * config.ema.enable) * trained


def choose_kind(config: TrainConfig, *, held: int, gpu_memory: int | None, world: World) -> Kind:
    """Return how the network lies on the GPUs: as `--parallel` says, or what `auto` means.

    `held` are the bytes of `held_bytes`; `gpu_memory` those of the smallest GPU, None on a CPU. `auto` is ddp while a
    GPU holds it all easily, and for settings that cannot be split; else hsdp where a machine's GPUs together hold it
    easily and there are several machines alike; else fsdp.
    """
    if config.parallel != "auto":
        return config.parallel
    if world.gpus == 1:
        return "none"
    if gpu_memory is None or config.needs_whole_network or held <= SHARE_OF_MEMORY * gpu_memory:
        return "ddp"
    in_each = held / world.per_machine
    alike = world.machines > 1 and world.per_machine > 1 and world.even
    return "hsdp" if alike and in_each <= SHARE_OF_MEMORY * gpu_memory else "fsdp"


def divided_by(kind: Kind, world: World) -> int:
    """Return over how many GPUs parameters, gradients and moments are divided."""
    return {"none": 1, "ddp": 1, "fsdp": world.gpus, "hsdp": world.per_machine}[kind]
