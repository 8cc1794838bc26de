"""Where the time of one training step goes, operation by operation: the full step of `train_step.py`, on a CPU.

Network, batch and step are those of `train_step.py` (medium shapes, everything trained, float32), with weights drawn
here, so that LeRobot's environment is not needed. PyTorch's profiler gives each operation's own time, its calls and its
shapes. Products are set against the rate of one large product (2048 × 2048), measured between the steps: what their
arithmetic would take at that rate is the floor of the step, and each line says how far above it a kind lies.

A round counts only where this process had its cores, CPU time of at least 95 % of threads × wall time, and where the
profiled step got no new pages from the kernel: what a profiler keeps lies between the large tensors, and with Kineto a
third of each profiled step was page faults that a training does not have. The older profiler, after a few rounds, has
none.

    python benchmarks/step_operations.py --threads 1 --rounds 7

Prints a table and writes benchmarks/results/step_operations_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import train_step as shapes
import train_step_ours
from torch import Tensor
from torch.autograd.profiler import profile

from pi05.machine import machine_info
from pi05.model.pi05 import Pi05

HERE = Path(__file__).parent
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::matmul"),
    "attention": ("aten::_scaled_dot_product_flash", "aten::_scaled_dot_product_attention", "aten::scaled_dot"),
    "convolution": ("aten::convolution", "aten::mkldnn_convolution", "aten::conv2d", "aten::_slow_conv2d"),
    "GELU": ("aten::gelu",),
    "normalisation": ("aten::native_layer_norm", "aten::rsqrt", "aten::mean", "aten::pow", "aten::_fused_rms_norm"),
    "copies": ("aten::copy_", "aten::clone", "aten::cat", "aten::contiguous", "aten::fill_", "aten::zero_"),
    "optimizer and clipping": ("aten::_fused_adamw_", "aten::_foreach", "aten::linalg_vector_norm", "aten::norm"),
    "sums and products of elements": ("aten::mul", "aten::add", "aten::sub", "aten::div", "aten::neg", "aten::sum"),
}
"""Beginnings of operations' names, by what a reader calls them. What matches none stands under its own name."""
SHOWN = 25
FEW_PAGES = 2000
WARM_UP = 4
"""Steps until the memory that they free is enough for the next one, so that no page is new."""


def main() -> int:
    """Parse the arguments, profile, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="profiled steps, one by one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    step = train_step_ours.step_on(Pi05(train_step_ours.sizes()), "full", _inputs(), compile_layers=False)
    for _ in range(WARM_UP):
        step()
    rounds = [_profiled(step, arguments.threads) for _ in range(arguments.rounds)]
    counted = [one for one in rounds if one["cpu_share"] >= shapes.FULL_SHARE and one["new_pages"] <= FEW_PAGES]
    if not counted:
        found = [(round(one["cpu_share"], 2), one["new_pages"]) for one in rounds]
        print("no round had the cores to itself and no new pages (share, pages):", found)
        return 1
    result = _summary(counted, arguments.threads) | {"rounds": arguments.rounds}
    print(_table(result))
    name = "step_operations" if arguments.threads == 1 else f"step_operations_{arguments.threads}_threads"
    out = HERE / "results" / f"{name}_{date.today().isoformat()}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {out.relative_to(HERE.parent)}")
    return 0


def _inputs() -> dict[str, Tensor]:
    """Return a batch as `train_step.py` hands it over; the values do not change what is measured."""
    batch, size = shapes.BATCH, shapes.IMAGE_SIZE
    return {
        "images": torch.rand(batch, shapes.CAMERAS, size, size, 3) * 2 - 1,
        "tokens": torch.randint(0, shapes.VOCABULARY, (batch, shapes.TOKENS)),
        "token_mask": torch.arange(shapes.TOKENS).expand(batch, -1) < shapes.REAL_TOKENS,
        "actions": torch.randn(batch, shapes.HORIZON, shapes.ACTION_DIMS),
        "noise": torch.randn(batch, shapes.HORIZON, shapes.ACTION_DIMS),
        "time": torch.rand(batch),
    }


def _profiled(step: Callable[[], float], threads: int) -> dict[str, Any]:
    """Run one step under the profiler; return each operation's own time (s), calls and arithmetic."""
    rate = _product_rate()
    wall, cpu = time.perf_counter(), time.process_time()
    step()  # without the profiler, which adds to many small operations
    plain = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with profile(use_kineto=False, with_flops=True, record_shapes=True) as record:
        step()
    new_pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    operations: dict[str, dict[str, float]] = defaultdict(lambda: {"self_s": 0.0, "calls": 0, "flop": 0.0})
    for event in record.key_averages():
        one = operations[event.key]
        one["self_s"] += event.self_cpu_time_total * 1e-6
        one["calls"] += event.count
        one["flop"] += event.flops or 0
    share = plain["cpu_s"] / (threads * plain["wall_s"])
    return {**plain, "cpu_share": share, "new_pages": new_pages, "rate": rate, "operations": operations}


def _product_rate() -> float:
    """Return the rate of a large float32 product (FLOP/s), the best of five."""
    left = torch.randn(shapes.PRODUCT, shapes.PRODUCT)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - started)
    return 2 * shapes.PRODUCT**3 / best


def _summary(rounds: list[dict[str, Any]], threads: int) -> dict[str, Any]:
    """Return medians over the rounds, by operation and by kind."""
    names = sorted({name for one in rounds for name in one["operations"]})
    middle = {
        name: {
            key: statistics.median(one["operations"].get(name, {}).get(key, 0.0) for one in rounds)
            for key in ("self_s", "calls", "flop")
        }
        for name in names
    }
    kinds: dict[str, dict[str, float]] = defaultdict(lambda: {"self_s": 0.0, "calls": 0, "flop": 0.0})
    for name, one in middle.items():
        for key, value in one.items():
            kinds[_kind(name)][key] += value
    rate = statistics.median(one["rate"] for one in rounds)
    total = sum(one["self_s"] for one in middle.values())
    flop = kinds["matrix products"]["flop"] + kinds["convolution"]["flop"]
    step_s = statistics.median(one["wall_s"] for one in rounds)
    return {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": train_step_ours.versions(),
        "threads": threads,
        "counted": len(rounds),
        "step_s": step_s,
        "step_cpu_s": statistics.median(one["cpu_s"] for one in rounds),
        "profiled_s": total,
        "product_gflop_s": rate / 1e9,
        "step_gflop": flop / 1e9,
        "share_of_product_rate": flop / rate / step_s,
        "kinds": {name: _line(one, total, rate) for name, one in _largest(kinds)},
        "operations": {name: _line(one, total, rate) for name, one in _largest(middle)[:SHOWN]},
    }


def _largest(table: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    return sorted(table.items(), key=lambda item: -item[1]["self_s"])


def _line(one: dict[str, float], total: float, rate: float) -> dict[str, float]:
    line = {"self_s": one["self_s"], "share": one["self_s"] / total, "calls": one["calls"]}
    if one["flop"]:
        line |= {"gflop": one["flop"] / 1e9, "share_of_product_rate": one["flop"] / rate / max(one["self_s"], 1e-9)}
    return line


def _kind(name: str) -> str:
    for kind, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return kind
    return "other"


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['threads']} thread(s), {result['counted']} of {result['rounds']} rounds count",
        f"step {result['step_s']:.3f} s, {result['step_gflop']:.0f} GFLOP in products, one large product runs at "
        f"{result['product_gflop_s']:.0f} GFLOP/s: the step reaches {result['share_of_product_rate']:.0%} of that",
    ]
    for title in ("kinds", "operations"):
        lines.append(f"\n{title:<58}{'s':>8}{'share':>8}{'calls':>8}{'of the rate':>13}")
        for name, one in result[title].items():
            rate = f"{one['share_of_product_rate']:.0%}" if "share_of_product_rate" in one else ""
            lines.append(f"{name[:57]:<58}{one['self_s']:>8.3f}{one['share']:>8.1%}{one['calls']:>8.0f}{rate:>13}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
