"""The network of a run on its processes: whole on each, or split from the start so that none ever holds all of it.

A split network is laid out on the `meta` device, split, and given memory for the own part only. Values come from rank
0, which builds the network in host memory as one process would (so the same base, the same draws). It hands it out
tensor by tensor (broadcast). On resume each process reads its rows from the checkpoint. Leaves out what splitting means
(`split.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.train import resume
from pi05.train.config import TrainConfig
from pi05.train.exclusions import Place, require_compatible
from pi05.train.lora import adapt, frozen_precision
from pi05.train.network import (
    Network,
    build_network,
    compute_dtype,
    hold_matrices,
    reads_on_host,
    rebuild_network,
    trainable,
)
from pi05.train.parallel.kind import Kind, choose_kind, held_bytes
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.split import Parallel, replicate, shard, spread


@dataclass(kw_only=True)
class Placed:
    """A network on this run's processes."""

    network: Network
    parameters: dict[str, nn.Parameter]
    """What is trained, by name."""
    parallel: Parallel
    whole: Network | None
    """The network with all values in one place, on rank 0 only; drop it when the run has kept what it needs of it."""

    def start(self) -> str:
        """Make ready for the first step; return the precision of frozen weights."""
        model = self.network.model
        if self.parallel.kind == "ddp":
            self.parallel.ddp = replicate(model)
        return "float32" if self.network.lora is None else frozen_precision(model)


def place_network(config: TrainConfig, sizes: ModelConfig, run: resume.OpenRun, ranks: Ranks) -> Placed:
    """Build the network, with the base's weights or empty for those of the checkpoint, where it is to be trained."""
    kind = agree_on_kind(config, sizes, ranks)
    require_compatible(config, Place(on_gpu=ranks.device.type != "cpu", world=ranks.world, kind=kind))
    parallel = Parallel(ranks=ranks, kind=kind)
    if not parallel.sharded:
        build = partial(_build, config, sizes, run, ranks.device)
        # What is rounded or quantised passes through host memory in float32: 13 GB of each process at full size.
        network = ranks.one_by_one(build) if reads_on_host(config) else build()
        parameters = trainable(network, config.part)
        return Placed(network=network, parameters=parameters, parallel=parallel, whole=network if ranks.first else None)
    network = outline(config, sizes)
    trainable(network, config.part)
    model = network.model
    shard(model, kind, ranks)
    whole = None
    if not run.continues or network.lora is not None:
        whole = _build(config, sizes, run, torch.device("cpu")) if ranks.first else None
        spread(model, None if whole is None else dict(whole.model.named_parameters()), ranks)
        receipt = None if whole is None else whole.receipt
        network = Network(model=model, receipt=receipt, lora=network.lora)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return Placed(network=network, parameters=parameters, parallel=parallel, whole=whole)


def agree_on_kind(config: TrainConfig, sizes: ModelConfig, ranks: Ranks) -> Kind:
    """Return how the network lies on the GPUs of this run: the same answer in every process."""
    memory = None
    if ranks.device.type == "cuda":
        own = torch.cuda.get_device_properties(ranks.device).total_memory
        memory = -int(ranks.maxima([-float(own)])[0])
    held = 0
    if ranks.several:
        parameters, trained = count_parameters(config, sizes)
        held = held_bytes(config, parameters=parameters, trained=trained)
    return choose_kind(config, held=held, gpu_memory=memory, world=ranks.world)


def _build(config: TrainConfig, sizes: ModelConfig, run: resume.OpenRun, device: torch.device) -> Network:
    if run.folder is None:
        return build_network(config, sizes, device, run.base)
    return rebuild_network(config, sizes, device, run.folder, resume.base_of(run))


def outline(config: TrainConfig, sizes: ModelConfig) -> Network:
    """Return the network without memory, adapters included."""
    with torch.device("meta"):
        model = hold_matrices(Pi05(sizes, compute_dtype(config.precision)), config.precision)
    return Network(model=model, receipt=None, lora=adapt(model, config))


def count_parameters(config: TrainConfig, sizes: ModelConfig) -> tuple[int, int]:
    """Return the parameters of the network, and how many of them are trained."""
    network = outline(config, sizes)
    trained = trainable(network, config.part)
    return sum(value.numel() for value in network.model.parameters()), sum(v.numel() for v in trained.values())
