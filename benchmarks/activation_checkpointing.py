"""Measure what each degree of `--activation_checkpointing` keeps for the backward pass, and what it costs in time.

The medium network of `train_step.py` in float32 on a CPU, one step of full training without the optimizer; the degrees
take turns in one run. Kept are the bytes of all tensors that the forward pass leaves alive, weights not counted.

    python benchmarks/activation_checkpointing.py --threads 2 --rounds 5

Prints a table and writes benchmarks/results/activation_checkpointing_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
import train_step as shapes
from torch import Tensor
from train_step_ours import sizes

from pi05.machine import machine_info
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside
from pi05.train.memory_config import Degree
from pi05.train.plan.live_memory import LiveStorage
from pi05.types import Batch

DEGREES: dict[str, Degree] = {"none": 0.0, "0.5": 0.5, "selective": "selective", "full": 1.0}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = {name: build(degree) for name, degree in DEGREES.items()}
    kept = {name: kept_bytes(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(arguments.rounds + 1):
        for name, model in models.items():
            started = time.perf_counter()
            loss(model).backward()
            seconds[name].append(time.perf_counter() - started)
            model.zero_grad(set_to_none=True)
    median = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    for name in models:
        print(f"{name:10} {kept[name] / 1e6:8.1f} MB {median[name]:6.2f} s  {median[name] / median['none']:.2f} x time")
    result = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "kept_bytes": kept,
        "median_seconds": median,
        "seconds": seconds,
    }
    path = Path(__file__).parent / "results" / f"activation_checkpointing_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")
    return 0


def build(degree: Degree) -> Pi05:
    """Return the medium network with random weights."""
    model = Pi05(replace(sizes(), vocab_size=1024))
    model.initialize(torch.Generator().manual_seed(0))
    apply_from_outside(model, compile_layers=False, recompute_activations=degree)
    return model


def loss(model: Pi05) -> Tensor:
    """Return the loss of a batch of the benchmark's shapes: 2 cameras, 64 tokens."""
    generator = torch.Generator().manual_seed(0)
    count, side = shapes.BATCH, shapes.IMAGE_SIZE
    batch = Batch(
        images=torch.randint(0, 256, (count, 2, side, side, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, 1024, (count, 64), generator=generator),
        token_mask=None,
        actions=torch.randn((count, shapes.HORIZON, shapes.ACTION_DIMS), generator=generator),
        trimmed=True,
    )
    return model.loss(batch, generator=generator).mean()


def kept_bytes(model: Pi05) -> int:
    """Return the bytes that a forward pass leaves alive for the backward pass."""
    with LiveStorage("cpu", block=1) as storages:
        storages.ignore(model.parameters())
        result = loss(model)
    assert result.requires_grad
    return storages.total


if __name__ == "__main__":
    raise SystemExit(main())
