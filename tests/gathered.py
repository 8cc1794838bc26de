"""A program for torchrun: steps of a small network split by FSDP, and what each of them exchanges.

    python -m torch.distributed.run --nproc-per-node=2 tests/gathered.py OUT fsdp|hsdp [CASE ...]

Every case is trained as the run does it (`shard`), with every weight gathered in its own precision, layer by layer, and
by one process. With hsdp the processes pose as machines of two. Rank 0 writes what it found to OUT as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_network import CONFIG, SETTINGS, make_batch, make_model, make_state
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.utils._python_dispatch import TorchDispatchMode

from pi05.model.lora import LoraSpec, add_lora
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside, layers_of
from pi05.train.method import Part
from pi05.train.parallel.gathering import gathered_bytes, units_of
from pi05.train.parallel.kind import Kind
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.shards import whole
from pi05.train.parallel.split import METHODS_OF_ROOT, Parallel, shard, spread
from pi05.train.parameters import freeze, train_only
from pi05.train.step import TrainState, train_step

BF16 = torch.bfloat16
LORA = ("attention.query", "attention.value", "mlp.down")
STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a network is trained."""

    part: Part = "full"
    computed: torch.dtype = BF16
    lora: bool = False
    recomputed: float = 0.0
    passes: int = 1
    """Forward passes of each process in a step."""


CASES: dict[str, Case] = {
    "full": Case(),
    "full, recomputed, two passes": Case(recomputed=1.0, passes=2),
    "vision frozen": Case(part="frozen-vision", recomputed=0.5),
    "the expert alone": Case(part="expert"),
    "lora": Case(lora=True, recomputed=1.0, passes=2),
    "float32": Case(computed=torch.float32),
}


@dataclass
class Exchange:
    """What one step moves, gathers and sums of gradients: bytes of each, by precision."""

    gathers: int = 0
    gathered: dict[str, int] = field(default_factory=dict)
    sums: int = 0
    summed: dict[str, int] = field(default_factory=dict)


class Watch(TorchDispatchMode):
    """Counts the collectives as PyTorch calls them, whatever module they are for."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Exchange()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.c10d._allgather_base_.default:
            self.found.gathers += 1
            add(self.found.gathered, args[0])
        elif func is torch.ops.c10d._reduce_scatter_base_.default:
            self.found.sums += 1
            add(self.found.summed, args[1])
        return func(*args, **(kwargs or {}))


def add(counts: dict[str, int], tensor: Tensor) -> None:
    """Count a tensor's bytes."""
    precision = str(tensor.dtype).removeprefix("torch.")
    counts[precision] = counts.get(precision, 0) + tensor.nbytes


def build(case: Case) -> Pi05:
    """Return the network of a case, the same in every process."""
    model = make_model()
    model.compute_dtype = case.computed
    if not case.lora:
        freeze(model, case.part)
        return model
    names = [name for name in model.tower_maps if name.endswith(LORA) and name.startswith(("language", "expert"))]
    add_lora(model, {name: LoraSpec(rank=2, alpha=2.0) for name in names}, torch.Generator().manual_seed(1))
    trained = [name for name, _ in model.named_parameters() if "lora_" in name or name.startswith("vision.blocks.0")]
    train_only(model, trained)
    for name, module in model.tower_maps.items():  # as `narrow_frozen_maps` holds them
        if not name.startswith("vision.blocks.0"):
            module.weight.data = module.weight.data.to(case.computed)
    for name, value in model.named_parameters():  # open the adapters
        if "lora_b" in name:
            value.data += 0.05
    return model


def on_meta(model: Pi05) -> Pi05:
    """Return a network without memory, held and trained as another is."""
    return model.to("meta")


def shard_exactly(model: Pi05, kind: Kind, ranks: Ranks) -> None:
    """Split a network so that all is gathered as it is held, twice: what `shard` did before."""
    if kind == "hsdp":
        shape = (ranks.world.machines, ranks.world.per_machine)
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard"))
    else:
        mesh = init_device_mesh("cpu", (ranks.world_size,), mesh_dim_names=("shard",))
    for layer in (*layers_of(model), model.embedding):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    for name in METHODS_OF_ROOT:
        register_fsdp_forward_method(model, name)
    for layer in model.expert.layers:
        register_fsdp_forward_method(layer, "modulate")
    model.to_empty(device="cpu")


def split_state(case: Case, split: Callable[[Pi05, Kind, Ranks], None], kind: Kind, ranks: Ranks) -> TrainState:
    """Return a training of a network that is split over the processes."""
    source = dict(build(case).named_parameters()) if ranks.first else None
    model = on_meta(build(case))
    split(model, kind, ranks)
    spread(model, source, ranks)
    apply_from_outside(model, compile_layers=False, recompute_activations=case.recomputed)
    state = make_state(model, {name: value for name, value in model.named_parameters() if value.requires_grad})
    state.parallel = Parallel(ranks=ranks, kind=kind)
    return state


def alone_state(case: Case) -> TrainState:
    """Return the training of one process."""
    model = build(case)
    return make_state(model, {name: value for name, value in model.named_parameters() if value.requires_grad})


@dataclass
class Trained:
    """What came out."""

    losses: list[float]
    gradients: dict[str, Tensor]
    """Of the last step."""
    weights: dict[str, Tensor]
    actions: Tensor
    exchange: Exchange
    """Of the last step."""


def run(state: TrainState, passes: int) -> Trained:
    """Take the steps, the last one under watch, then sample."""
    ranks, losses, watch = state.parallel.ranks, [], Watch()
    for step in range(STEPS):
        dealt = [index * ranks.world_size + ranks.rank for index in range(passes)]
        batches = [make_batch(2, seed=100 * step + place) for place in dealt]
        with watch if step == STEPS - 1 else nullcontext():
            losses.append(float(train_step(state, batches, SETTINGS).loss))
    noise = torch.randn(2, CONFIG.horizon, CONFIG.action_dim, generator=torch.Generator().manual_seed(3))
    return Trained(
        losses=losses,
        gradients={name: whole(value.grad) for name, value in state.optimizer.parameters.items()},  # type: ignore[arg-type]
        weights={name: whole(value) for name, value in state.model.named_parameters()},
        actions=state.model.sample_actions(make_batch(2), noise=noise, num_steps=3),  # type: ignore[operator]
        exchange=watch.found,
    )


def differing(left: Trained, right: Trained) -> list[str]:
    """Return what differs between two runs, by a single bit."""
    pairs = {
        "losses": (torch.tensor(left.losses), torch.tensor(right.losses)),
        "actions": (left.actions, right.actions),
    }
    for kind in ("gradients", "weights"):
        one, other = getattr(left, kind), getattr(right, kind)
        assert one.keys() == other.keys()
        pairs |= {f"{kind} {name}": (one[name], other[name]) for name in one}
    return [name for name, (one, other) in pairs.items() if not torch.equal(one, other)]


def compare(name: str, kind: Kind, ranks: Ranks) -> dict[str, Any]:
    """Train a case in three ways; return what the two exchanged, and what differs."""
    case = CASES[name]
    rounded, exact = (run(split_state(case, split, kind, ranks), case.passes) for split in (shard, shard_exactly))
    alone = run(alone_state(case), case.passes * ranks.world_size)
    model = build(case)
    units, trained = units_of(model), [value for value in model.parameters() if value.requires_grad]
    return {
        "rounded": asdict(rounded.exchange),
        "exact": asdict(exact.exchange),
        "unlike exact": differing(rounded, exact),
        "unlike alone": differing(rounded, alone),
        "losses": rounded.losses,
        "losses alone": alone.losses,
        "units": len(units),
        "embedding": model.embedding.weight.nbytes,
        "predicted": {"gathered": gathered_bytes(units), "summed": sum(value.nbytes for value in trained)},
    }


def main() -> None:
    """Be one of the processes."""
    out, kind = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    per_machine = 2 if kind == "hsdp" else world_size
    ranks = Ranks(rank=rank, world_size=world_size, local_rank=rank % per_machine, local_world_size=per_machine)
    found = {name: compare(name, kind, ranks) for name in sys.argv[3:] or CASES}  # type: ignore[arg-type]
    if ranks.first:
        out.write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
