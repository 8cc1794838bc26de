"""The low-memory optimizer's update by the ways it runs: time on a CPU, bytes and kernels anywhere.

    python benchmarks/optimizer_update.py --rounds 9
    python benchmarks/optimizer_update.py --rounds 0    # counts only

Measured: steps over a few large tensors in turns (A B A B ...) on this CPU, with float32, 8-bit and 4-bit moments and
weights in float32 and bfloat16; ratios are of medians. Computed, not measured: what one portion reads and writes.
Operation by operation that is the sum over the operations that run, each reading its inputs and writing its outputs
once; compiled, the sum over the loops that Inductor makes for this CPU, likewise (for a GPU it may join others); by the
kernels written for it what each launch is given, all of which they read and write once, the least that there is (that
they do no more is a test of theirs under Triton's interpreter). From bytes and memory bandwidth follows the time of a
whole model's update, in which launches and arithmetic count nothing. Prints tables and writes
benchmarks/results/optimizer_update_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pi05.machine import machine_info
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.kernel_update import Launches
from pi05.train.optim.kernel_values import Values
from pi05.train.optim.low_memory import PORTION, LowMemoryOptimizer, StateKind
from pi05.train.optim.way import Way

KINDS: tuple[StateKind, ...] = ("float32", "8bit", "4bit")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TENSORS, ROWS = 4, 1024
SCHEDULE = Schedule(peak=2.5e-5, warmup_steps=0, decay_steps=1000, end=2.5e-5)
PARAMETERS = 3.4e9
BANDWIDTHS = {"RTX 4090": 1.01e12, "H200": 4.8e12}
"""Bytes a second, from NVIDIA's data sheets."""


def main() -> None:
    """Compute, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each side, after two for warming up")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = [(kind, name) for name in DTYPES for kind in KINDS]
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "threads": arguments.threads,
        "tensors": [TENSORS, ROWS, ROWS],
        "portion": PORTION["cpu"],
        "measured": {},
        "computed_not_measured": {
            "what": "bytes per parameter and kernels per portion, counted; seconds = bytes · parameters / bandwidth",
            "parameters": PARAMETERS,
            "bandwidths": BANDWIDTHS,
            "cases": {},
        },
    }
    for kind, name in cases:
        row = computed(kind, DTYPES[name])
        result["computed_not_measured"]["cases"][f"{name} weights, {kind} moments"] = row
        print(name, kind, json.dumps(row), flush=True)
    for kind, name in cases if arguments.rounds else ():
        row = measured(kind, DTYPES[name], arguments.rounds)
        result["measured"][f"{name} weights, {kind} moments"] = row
        print(name, kind, json.dumps(row), flush=True)
    show(result, Console(width=150))
    path = Path(__file__).parent / "results" / f"optimizer_update_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path)


class Side:
    """Weights with an optimizer of their own."""

    def __init__(
        self,
        kind: StateKind,
        dtype: torch.dtype,
        way: Way,
        tensors: int,
        rows: int,
        launches: Launches | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (rows, ROWS)
        draws = {str(number): torch.randn(shape, generator=generator) for number in range(tensors)}
        self.weights = {name: nn.Parameter((0.02 * value).to(dtype)) for name, value in draws.items()}
        self.gradients = {name: (1e-3 * value.flip(0)).to(dtype) for name, value in draws.items()}
        self.optimizer = LowMemoryOptimizer(
            self.weights, AdamSettings(), SCHEDULE, seed=0, state=kind, way=way, launches=launches
        )
        self.factor = torch.ones(())
        self.taken = 0

    def step(self) -> float:
        """Move all weights; return the seconds. The gradients' norm is left out: it is the same on both sides."""
        begun = time.perf_counter()
        for name, gradient in self.gradients.items():
            self.optimizer._move(name, gradient, self.factor, self.taken)
        self.taken += 1
        return time.perf_counter() - begun


def measured(kind: StateKind, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Let both sides take steps in turns."""
    ways: dict[str, Way] = {"eager": "plain", "compiled": "compiled"}
    sides = {name: Side(kind, dtype, way, TENSORS, ROWS) for name, way in ways.items()}
    first = {name: side.step() for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            taken = side.step()
            if number:
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    portions = TENSORS * ROWS * ROWS / PORTION["cpu"]
    return {
        "seconds": seconds,
        "first_step_seconds": first,
        "median_ms_per_portion": {name: 1e3 * value / portions for name, value in medians.items()},
        "compiled_over_eager": medians["compiled"] / medians["eager"],
    }


class Traffic(TorchDispatchMode):
    """Counts the operations that run, and the bytes of their inputs and outputs. Views are none."""

    FREE = ("empty", "detach", "alias", "_unsafe_view", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.kernels = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        outputs = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if not function.is_view and not name.startswith(self.FREE):
            read = tensors_in(args[1:] if name in ("copy_", "fill_", "zero_") else args)
            self.kernels += 1
            self.bytes += sum(value.nbytes for value in {id(one): one for one in read}.values())
            self.bytes += sum(value.nbytes for value in tensors_in(outputs))
        return outputs


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors in nested tuples and lists."""
    if isinstance(values, Tensor):
        return [values]
    return [one for value in values for one in tensors_in(value)] if isinstance(values, (tuple, list)) else []


class Counted:
    """Stands for the kernels, and counts launches and what they are given."""

    def __init__(self) -> None:
        self.bytes, self.count = 0, 0

    def launch_packed(self, values: Values, *_: Any) -> None:
        """Count a parameter with packed moments."""
        self.launch_group([values])

    def launch_float32(self, values: Values, *_: Any) -> None:
        """Count a parameter with moments in float32."""
        self.launch_group([values])

    def launch_group(self, group: Sequence[Values], *_: Any) -> None:
        """Count parameters that are moved at once."""
        self.bytes += sum(each.moved_bytes for each in group)
        self.count += 1


class CountedError(Exception):
    """Ends a compilation once its loops are known; no code is made of them."""


def computed(kind: StateKind, dtype: torch.dtype) -> dict[str, Any]:
    """Count what one portion takes, in its second step: the moments are there, and so are the tables."""
    rows = PORTION["cpu"] // ROWS
    count = rows * ROWS
    eager = Side(kind, dtype, "plain", 1, rows)
    eager.step()
    with Traffic() as traffic:
        eager.step()
    loops: list[int] = []

    def count_loops(nodes: list[Any]) -> None:
        """Note what Inductor's loops read and write, after it has joined them, and stop."""
        loops.extend(node.get_read_write_buffers_sizes() for node in nodes)
        raise CountedError

    torch._dynamo.reset()
    compiled = Side(kind, dtype, "compiled", 1, rows)
    with torch._inductor.config.patch(force_disable_caches=True, _post_fusion_custom_pass=count_loops):
        try:
            compiled.step()
        except torch._inductor.exc.InductorError as error:
            if not isinstance(error.inner_exception, CountedError):
                raise
    torch._dynamo.reset()
    launches = Counted()
    Side(kind, dtype, "kernel", 1, rows, launches).step()
    found = {
        "eager": {"kernels": traffic.kernels, "bytes_per_parameter": traffic.bytes / count},
        "compiled": {
            "kernels": len(loops),
            "bytes_per_parameter": sum(loops) / count,
        },
        "kernel": {"kernels": launches.count, "bytes_per_parameter": launches.bytes / count},
    }
    for row in found.values():
        row["seconds"] = {
            name: row["bytes_per_parameter"] * PARAMETERS / bandwidth for name, bandwidth in BANDWIDTHS.items()
        }
    return found


def show(result: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("weights, moments", "eager (ms)", "compiled (ms)", "compiled / eager", title="Measured, per portion")
    for case, row in result["measured"].items():
        times = row["median_ms_per_portion"].values()
        table.add_row(case, *(f"{value:.2f}" for value in times), f"{row['compiled_over_eager']:.2f}")
    console.print(table)
    columns = [f"{name} (ms)" for name in BANDWIDTHS]
    title = f"Computed, not measured: {PARAMETERS / 1e9:g} billion parameters"
    table = Table("weights, moments", "code", "kernels", "bytes / parameter", *columns, title=title)
    for case, rows in result["computed_not_measured"]["cases"].items():
        for code, row in rows.items():
            times = [f"{1e3 * value:.0f}" for value in row["seconds"].values()]
            table.add_row(case, code, str(row["kernels"]), f"{row['bytes_per_parameter']:.1f}", *times)
    console.print(table)


if __name__ == "__main__":
    main()
