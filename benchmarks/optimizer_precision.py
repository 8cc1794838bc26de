"""What AdamW does in each precision: do the weights move, what is learnt, what memory and time does it take. On a CPU.

    python benchmarks/optimizer_precision.py --seeds 5
    PYTHONPATH=/path/with/torchao:/path/with/bitsandbytes python benchmarks/optimizer_precision.py --seeds 5

Moved: share of N(0, 0.02) weights that the first step changes, and how far the mean weight gets of where it should.
Learnt: the two trainings of `precision_task.py`. Walk: where 40 steps lead with gradients whose sizes differ by orders
of magnitude, against PyTorch's float32 AdamW on the same gradients; libraries that are not installed are left out.
Time: of a step, over that of PyTorch's fused float32 AdamW, in turns. Prints tables and writes
benchmarks/results/optimizer_precision_DATE.json.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import statistics
import time
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import torch
from precision_task import RATE, build, fine_tune, regress, weight_dtype
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from pi05.machine import machine_info
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer

MODES = ("float32", "float32, 8bit", "float32, 4bit", "bf16-sr", "bf16-sr, 8bit", "bf16-sr, 4bit", "plain bfloat16")
RATES = (2.5e-5, 1e-5, 2.5e-6)
LIBRARIES = {
    "torchao AdamW8bit": ("torchao", "torchao.optim", "AdamW8bit"),
    "torchao AdamW4bit": ("torchao", "torchao.optim", "AdamW4bit"),
    "bitsandbytes AdamW8bit": ("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
}
ROWS, MATRICES, WALK_STEPS = 1024, 4, 40


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="trainings per mode")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds is 2 or more: the tables tell how far trainings differ")
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")  # the libraries' own
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "threads": arguments.threads,
        "seeds": arguments.seeds,
        "moved": {mode: {str(rate): moved(mode, rate) for rate in RATES} for mode in ("float32", *MODES[3:])},
        "learnt": {mode: learnt(mode, arguments.seeds) for mode in MODES},
        "bytes_per_parameter": {mode: memory(mode) for mode in MODES},
        "walk": {name: walk(name) for name in (*MODES[:3], *LIBRARIES) if installed(name)},
        "versions": {module: version(module) for module in ("torch", "torchao", "bitsandbytes")},
    }
    show(result, Console(width=140))
    path = Path(__file__).parent / "results" / f"optimizer_precision_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path)


def constant(rate: float) -> Schedule:
    """Return a schedule without warm-up and decay."""
    return Schedule(peak=rate, warmup_steps=0, decay_steps=10, end=rate)


def moved(mode: str, rate: float) -> dict[str, float]:
    """Measure the first step: the share of weights that it changes, and its mean over what it should be."""
    generator = torch.Generator().manual_seed(0)
    start = (0.02 * torch.randn(2**20, generator=generator)).to(weight_dtype(mode))
    weight = nn.Parameter(start.clone())
    optimizer = build(mode, {"w": weight}, constant(rate), seed=0, clip=1e9)
    weight.grad = torch.rand(2**20, generator=generator).add(0.5).to(weight.dtype)
    optimizer.apply(0)
    now = weight.detach()
    return {
        "share": float((now != start).double().mean()),
        "mean_over_due": float((start.double() - now.double()).mean()) / rate,
    }


def learnt(mode: str, seeds: int) -> dict[str, list[float]]:
    """Train on both tasks from several seeds."""
    return {
        "regression": [regress(mode, seed) for seed in range(seeds)],
        "flow": [fine_tune(mode, seed) for seed in range(seeds)],
    }


def memory(mode: str) -> dict[str, float]:
    """Count the bytes of weights, gradients and moments for each parameter of a large matrix."""
    weight = nn.Parameter(torch.zeros(ROWS, ROWS, dtype=weight_dtype(mode)))
    optimizer = build(mode, {"w": weight}, constant(RATE), seed=0)
    width = weight.element_size()
    moments = optimizer.moment_bytes() / weight.numel()
    return {"weights": width, "gradients": width, "moments": moments, "all": 2 * width + moments}


def installed(name: str) -> bool:
    """Tell whether a library is there; our own modes are."""
    return name not in LIBRARIES or importlib.util.find_spec(LIBRARIES[name][0]) is not None


def version(module: str) -> str | None:
    """Return the version of a package, None without it."""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return None


def matrices() -> dict[str, nn.Parameter]:
    """Return the weights that the walk starts from."""
    generator = torch.Generator().manual_seed(0)
    return {
        str(number): nn.Parameter(0.02 * torch.randn(ROWS, ROWS, generator=generator)) for number in range(MATRICES)
    }


def walk(name: str) -> dict[str, Any]:
    """Take 40 steps beside PyTorch's fused AdamW, in turns, with the same gradients; compare weights and times."""
    plain, other, start = matrices(), matrices(), matrices()
    settings = AdamSettings(clip_norm=1e9)
    reference = AdamW(plain, settings, constant(RATE))
    step: Any
    if name in LIBRARIES:
        _, module, cls = LIBRARIES[name]
        options = {"betas": settings.betas, "eps": settings.eps, "weight_decay": settings.weight_decay}
        library = getattr(importlib.import_module(module), cls)(other.values(), lr=RATE, **options)
        step = lambda number: library.step()  # noqa: E731
    elif name == "float32":
        step = LowMemoryOptimizer(other, settings, constant(RATE), seed=0).apply
    else:
        step = build(name, other, constant(RATE), seed=0, clip=1e9).apply
    generator = torch.Generator().manual_seed(1)
    sizes = {key: spread(generator) for key in plain}
    seconds: list[tuple[float, float]] = []
    for number in range(WALK_STEPS):
        for key, size in sizes.items():
            gradient = size * (torch.randn(ROWS, ROWS, generator=generator) + 0.3)
            plain[key].grad, other[key].grad = gradient, gradient.clone()
        begun = time.perf_counter()
        reference.apply(number)
        between = time.perf_counter()
        step(number)
        seconds.append((between - begun, time.perf_counter() - between))
    wanted, found = (distance(weights, start) for weights in (plain, other))
    ratios = [ours / theirs for theirs, ours in seconds[5:]]
    return {
        "distance": float((found - wanted).norm() / wanted.norm()),
        "slope": float((found * wanted).sum() / wanted.square().sum()),
        "largest_over_largest": float(found.abs().max() / wanted.abs().max()),
        "time_over_fused": statistics.median(ratios),
        "first_step_seconds": seconds[0][1],
    }


def spread(generator: torch.Generator) -> Tensor:
    """Draw the sizes of gradients: log-normal, by row and by element."""
    rows, elements = torch.randn(ROWS, 1, generator=generator), torch.randn(ROWS, ROWS, generator=generator)
    return torch.exp(1.5 * rows + elements) * 1e-4


def distance(weights: dict[str, nn.Parameter], start: dict[str, nn.Parameter]) -> Tensor:
    """Return how far all weights are from where they started."""
    return torch.cat([(weights[key] - start[key]).detach().flatten() for key in start])


def show(result: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("mode", *(f"moved at {rate:g}" for rate in RATES), "mean / due", title="First step")
    for mode, rates in result["moved"].items():
        shares = [f"{100 * rates[str(rate)]['share']:.1f} %" for rate in RATES]
        table.add_row(mode, *shares, f"{rates[str(RATES[0])]['mean_over_due']:.3f}")
    console.print(table)
    table = Table("mode", "regression", "flow", "weights", "gradients", "moments", "all", title="Left over; bytes")
    for mode, tasks in result["learnt"].items():
        bytes_of = result["bytes_per_parameter"][mode]
        errors = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in tasks.values()]
        table.add_row(mode, *errors, *(f"{value:.2f}" for value in bytes_of.values()))
    console.print(table)
    table = Table("optimizer", "distance", "slope", "largest", "time", "first step (s)", title="Walk, against AdamW")
    for name, row in result["walk"].items():
        numbers = [row[key] for key in ("distance", "slope", "largest_over_largest", "time_over_fused")]
        table.add_row(name, *(f"{number:.3g}" for number in numbers), f"{row['first_step_seconds']:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
