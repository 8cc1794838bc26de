"""What FSDP's unit costs: single layers, as the trainer splits them, against pairs of a language and an expert layer.

    python benchmarks/fsdp_units.py [--rounds 5]

Two processes (gloo, CPU, one thread each) train a network with the layers of π₀.₅ at a sixteenth of its widths, so that
units have the proportions of full size, in float32. Three ways take turns, step by step, with the same weights:

    single       each layer is a unit; the whole language model runs, then the expert (`train/parallel/split.py`)
    pairs        `fully_shard([language layer, expert layer])`, the same order
    interleaved  pairs, and after each language layer runs the expert layer that reads its keys and values

Counted on rank 0 in one step: collectives, bytes that gathers and gradient sums move through a buffer, and the most
bytes of gathered weights that were alive at once, read off the storages that FSDP fills and the buffers it fills them
from. Which units these were is decided by the order of the layers, not by their widths; so their bytes at full size are
exact too, as sums over the same units. Prints a table and writes benchmarks/results/fsdp_units_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.multiprocessing
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup

from pi05.machine import machine_info
from pi05.model import flow
from pi05.model.config import ModelConfig
from pi05.model.gemma import rotation
from pi05.model.pi05 import Pi05
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.split import METHODS_OF_ROOT, shard, spread
from pi05.train.parameters import freeze
from pi05.types import Batch

FULL = ModelConfig()
SMALL = ModelConfig(
    image_size=56, vision_width=72, vision_mlp=269, vision_heads=8, vocab_size=FULL.vocab_size // 16,
    language_width=128, language_mlp=1024, expert_width=64, expert_mlp=256, head_dim=16, horizon=10,
    max_prompt_tokens=16,
)  # fmt: skip
WAYS = ("single", "pairs", "interleaved")
CASES = {
    "full": "full fine-tuning",
    "expert": "the expert alone",
    "cached": "the expert alone, prefix cached",
    "sampling": "10 steps of sampling, no training",
}
SAMPLES = 2


class Interleaved(Pi05):
    """The same network; in training each expert layer runs right after the language layer that it reads."""

    def loss(  # type: ignore[override]
        self, batch: Batch, noise: Tensor, time: Tensor, flow_samples: int = 1, delay: None = None
    ) -> Tensor:
        """Return what `Pi05.loss` returns, by the same arithmetic."""
        if batch.prefix is not None:
            return super().loss(batch, noise, time)
        assert batch.actions is not None
        x_t, u_t = flow.interpolate(batch.actions, noise, time)
        tokens, valid = self.embed_prefix(batch)
        assert valid is None
        count, length = tokens.shape[:2]
        places = torch.arange(length + x_t.shape[1])
        language_turn = rotation(places[:length].expand(count, -1), self.config.head_dim)
        expert_turn = rotation(places[length:].expand(count, -1), self.config.head_dim)
        suffix, condition = self.embed_suffix(x_t), self.condition(time)
        stream: Tensor | None = tokens
        for language, expert in zip(self.language.layers, self.expert.layers, strict=True):
            stream, prefix = language(stream, language_turn, None, last=language is self.language.layers[-1])
            suffix = expert(suffix, condition, expert_turn, prefix, None)
        return (self.action_out(self.expert.norm(suffix, condition)[0]) - u_t).square()


@dataclass
class Counts:
    """What one step moved, and the most that was gathered at once; `full` is at full size."""

    gathers: int = 0
    gathered_bytes: int = 0
    full_gathered_bytes: int = 0
    sums: int = 0
    summed_bytes: int = 0
    peak_bytes: int = 0
    full_peak_bytes: int = 0
    peak_units: int = 0


@contextmanager
def counting(model: nn.Module, full: dict[str, int]) -> Iterator[Counts]:
    """Count what FSDP does inside. Torch has no public place to watch it, so that methods of its groups are wrapped."""
    counts = Counts()
    states = [module._get_fsdp_state() for module in model.modules() if hasattr(module, "_get_fsdp_state")]  # type: ignore[operator]
    groups = list(dict.fromkeys(group for state in states for group in state._fsdp_param_groups))
    whole_bytes = {group: sum(full[each._param_fqn] for each in group.fsdp_params) for group in groups}
    owners: dict[int, FSDPParamGroup] = {}
    unshard, unsharded, summed = FSDPParamGroup.unshard, FSDPParamGroup._to_unsharded, dist.reduce_scatter_single

    def look() -> None:
        results = {id(each): each for each in (group._all_gather_result for group in groups) if each is not None}
        deferred = groups[0].comm_ctx.all_gather_state
        if deferred is not None:
            results[id(deferred.all_gather_result)] = deferred.all_gather_result
        alive = [group for group in groups if group.is_unsharded]
        filled = sum(
            tensor.untyped_storage().nbytes()
            for group in groups for each in group.fsdp_params for tensor in each.all_gather_outputs
        )  # fmt: skip
        now = filled + sum(each.all_gather_output.nbytes for each in results.values())
        counts.peak_bytes = max(counts.peak_bytes, now)
        full_now = sum(whole_bytes[group] for group in alive) + sum(whole_bytes[owners[key]] for key in results)
        if full_now > counts.full_peak_bytes:
            counts.full_peak_bytes, counts.peak_units = full_now, len(alive)

    def gather(group: FSDPParamGroup, async_op: bool = False) -> None:
        before = group._all_gather_result
        unshard(group, async_op)
        result = group._all_gather_result
        if result is not None and result is not before:
            owners[id(result)] = group
            counts.gathers += 1
            counts.gathered_bytes += result.all_gather_output.nbytes
            counts.full_gathered_bytes += whole_bytes[group]
            look()

    def fill(group: FSDPParamGroup) -> None:
        unsharded(group)
        look()

    def add(*arguments: Any, **options: Any) -> Any:
        counts.sums += 1
        counts.summed_bytes += (options["input"] if "input" in options else arguments[1]).nbytes
        return summed(*arguments, **options)

    with (
        patch.object(FSDPParamGroup, "unshard", gather),
        patch.object(FSDPParamGroup, "_to_unsharded", fill),
        patch.object(dist, "reduce_scatter_single", add),
    ):
        yield counts


def build(way: str, case: str, ranks: Ranks) -> Pi05:
    """Return the network with the same weights for every way, split over the processes."""
    kind = Interleaved if way == "interleaved" else Pi05
    with torch.device("meta"):
        model = kind(SMALL)
    freeze(model, "expert" if case in ("expert", "cached") else "full")
    if way == "single":
        shard(model, "fsdp", ranks)
    else:
        mesh = init_device_mesh("cpu", (ranks.world_size,), mesh_dim_names=("shard",))
        pairs = [list(pair) for pair in zip(model.language.layers, model.expert.layers, strict=True)]
        for unit in (*model.vision.blocks, *pairs, model.embedding):
            fully_shard(unit, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        for name in METHODS_OF_ROOT:
            register_fsdp_forward_method(model, name)
        model.to_empty(device="cpu")
    whole = Pi05(SMALL)
    generator = torch.Generator().manual_seed(0)
    whole.initialize(generator)
    for parameter in whole.parameters():  # opens the gates of the expert's branches
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    spread(model, dict(whole.named_parameters()) if ranks.first else None, ranks)
    return model


def step_of(model: Pi05, case: str, rank: int) -> Callable[[], float]:
    """Return one step: a loss, its backward pass and the update; or a sampled chunk. It returns a number to compare."""
    generator = torch.Generator().manual_seed(1 + rank)
    side = SMALL.image_size
    batch = Batch(
        images=torch.randint(0, 256, (SAMPLES, 2, side, side, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, SMALL.vocab_size, (SAMPLES, 16), generator=generator),
        token_mask=None,
        actions=torch.randn((SAMPLES, SMALL.horizon, SMALL.action_dim), generator=generator),
        trimmed=True,
    )
    if case == "cached":
        shape = (SAMPLES, SMALL.depth, 2, 1, 48, SMALL.head_dim)
        batch = replace(batch, images=batch.images[:, :0], prefix=torch.randn(shape, generator=generator))
    noise = torch.randn(batch.actions.shape, generator=generator)  # type: ignore[union-attr]
    times = flow.sample_time(SAMPLES, generator)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)

    def step() -> float:
        if case == "sampling":
            return float(model.sample_actions(batch, noise=noise).square().mean())
        loss = model.loss(batch, noise=noise, time=times).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def work(rank: int, port: int, rounds: int, out: str) -> None:
    """Be one of the two processes; rank 0 writes the numbers to `out`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=2)
    ranks = Ranks(rank=rank, world_size=2, local_rank=rank, local_world_size=2)
    with torch.device("meta"):
        full = {name: 4 * value.numel() for name, value in Pi05(FULL).named_parameters()}
    rows = []
    for case in CASES:
        models = {way: build(way, case, ranks) for way in WAYS}
        steps = {way: step_of(model, case, rank) for way, model in models.items()}
        values: dict[str, list[float]] = {way: [steps[way]()] for way in WAYS}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        counted = {}
        for way in WAYS:
            with counting(models[way], full) as counted[way]:
                values[way].append(steps[way]())
        for _ in range(rounds):
            for way in WAYS:
                dist.barrier()
                started = time.perf_counter()
                values[way].append(steps[way]())
                dist.barrier()
                seconds[way].append(time.perf_counter() - started)
        for way in WAYS:
            ratios = [mine / single for mine, single in zip(seconds[way], seconds["single"], strict=True)]
            differences = [abs(a - b) / abs(b) for a, b in zip(values[way], values["single"], strict=True)]
            row = {"case": case, "way": way, **vars(counted[way]), "seconds": seconds[way]}
            rows.append({**row, "time_ratio": statistics.median(ratios), "difference": max(differences)})
    if ranks.first:
        Path(out).write_text(json.dumps(rows))
    dist.destroy_process_group()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=29617)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        torch.multiprocessing.spawn(work, (arguments.port, arguments.rounds, str(out)), nprocs=2)
        rows = json.loads(out.read_text())
    result = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "device": "CPU, gloo, two processes, one thread each",
        "sizes": SMALL.to_dict(),
        "rounds": arguments.rounds,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"fsdp_units_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    show(rows, path)


def show(rows: list[dict[str, Any]], path: Path) -> None:
    """Print the table."""
    table = Table(title=f"Units of FSDP ({path.name})", title_justify="left")
    columns = ("gathers", "sums", "gathered MB", "alive MB", "full: gathered GB", "full: alive GB")
    for column in ("case", "way", *columns, "time", "differs by"):
        table.add_column(column, justify="left" if column in ("case", "way") else "right")
    for row in rows:
        table.add_row(
            CASES[row["case"]] if row["way"] == WAYS[0] else "",
            row["way"],
            f"{row['gathers']}",
            f"{row['sums']}",
            f"{row['gathered_bytes'] / 1e6:.0f}",
            f"{row['peak_bytes'] / 1e6:.1f}",
            f"{row['full_gathered_bytes'] / 1e9:.2f}",
            f"{row['full_peak_bytes'] / 1e9:.2f}",
            f"{row['time_ratio']:.2f}",
            f"{row['difference']:.0e}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
