"""Measure whether one product for query, key and value (and for gate and up) is faster than three (and two).

Layers of the medium network of `train_step.py`, forward and backward, float32; the ways take turns in one run. `joined`
puts the weights together in every step, as parameters that keep their own names need; `one` has a single weight, the
best that any layout could give.

    python benchmarks/fused_products.py --threads 2 --rounds 9

Prints a table and writes benchmarks/results/fused_products_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pi05.machine import machine_info

SHAPES = {  # tokens, inputs, outputs of each product
    "language query, key, value": (4 * 576, 512, (512, 64, 64)),
    "language gate, up": (4 * 576, 512, (2048, 2048)),
    "expert query, key, value": (4 * 50, 256, (512, 64, 64)),
    "expert gate, up": (4 * 50, 256, (1024, 1024)),
    "vision query, key, value": (8 * 256, 256, (256, 256, 256)),
}
WAYS: dict[str, Callable[[Tensor, list[Tensor], Tensor], list[Tensor]]] = {
    "separate": lambda x, weights, whole: [F.linear(x, weight) for weight in weights],
    "joined": lambda x, weights, whole: list(F.linear(x, torch.cat(weights)).split([len(w) for w in weights], dim=1)),
    "one": lambda x, weights, whole: list(F.linear(x, whole).split([len(w) for w in weights], dim=1)),
}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = {"date": date.today().isoformat(), "machine": machine_info(), "threads": arguments.threads, "seconds": {}}
    for name, shape in SHAPES.items():
        result["seconds"][name] = found = measure(*shape, rounds=arguments.rounds)
        print(f"{name:28}" + "".join(f"{way} {1000 * found[way]:8.2f} ms   " for way in WAYS), flush=True)
    path = Path(__file__).parent / "results" / f"fused_products_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")
    return 0


def measure(tokens: int, inputs: int, outputs: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Return the median seconds of forward and backward in each way, taken in turns."""
    x = torch.randn(tokens, inputs, requires_grad=True)
    weights = [torch.randn(count, inputs, requires_grad=True) for count in outputs]
    whole = torch.cat(weights).detach().requires_grad_()
    gradients = [torch.randn(tokens, count) for count in outputs]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way, forward in WAYS.items():
            started = time.perf_counter()
            torch.autograd.backward(forward(x, weights, whole), gradients)
            seconds[way].append(time.perf_counter() - started)
            x.grad = whole.grad = None
            for weight in weights:
                weight.grad = None
    return {way: statistics.median(taken[1:]) for way, taken in seconds.items()}


if __name__ == "__main__":
    raise SystemExit(main())
