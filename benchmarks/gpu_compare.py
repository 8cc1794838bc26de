"""Predicted beside measured, part by part, and which constant of the planner is off by how much.

    python benchmarks/gpu_compare.py [benchmarks/results/gpu_day_NAME.json]

Reads what `gpu_day.py` wrote (the newest when none is named), predicts the same runs with the planner, prints two
tables, and writes them into the same file under `compared`. A rehearsal's numbers mean nothing and say so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_run import CAMERAS, PROMPT, settings
from rich.console import Console
from rich.table import Table

from pi05.model.config import ModelConfig, tiny
from pi05.model.config import pi05 as full_size
from pi05.train.device.kernels import KERNEL_NAMES
from pi05.train.plan.compilation import START_SECONDS
from pi05.train.plan.gpus import GIB, Gpu
from pi05.train.plan.memory import CUDA_CONTEXT, FRAGMENTATION, ONE_GPU, predict
from pi05.train.plan.roofline import (
    ATTENTION_SHARE,
    BANDWIDTH_SHARE,
    FUSED,
    FUSED_SHARE,
    LAUNCH,
    PRODUCTS_SHARE,
    count_operations,
)
from pi05.train.plan.speed import HOST_LINK, UTILISATION, estimate_speed
from pi05.train.plan.step_on_shapes import Shapes

RESULTS = Path(__file__).parent / "results"
SPEED = "samples/s"
METHODS = ("large none", "large selective", "large full", "24 GB bf16-sr", "24 GB mixed", "lora", "qlora")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One number, predicted and measured."""

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured / self.predicted if self.predicted else float("nan")


def main() -> int:
    """Compare, print, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    there = sorted(RESULTS.glob("gpu_day_*.json"), key=lambda each: each.stat().st_mtime)
    path = parser.parse_args().file or (there[-1] if there else None)
    if path is None:
        print("nothing is measured yet: bash benchmarks/gpu_day.sh", file=sys.stderr)
        return 2
    result = json.loads(path.read_text(encoding="utf-8"))
    rehearsed = "rehearsal" in result["what"]
    gpu = Gpu(**{**result["gpu"], "capability": tuple(result["gpu"]["capability"])})
    sizes = tiny() if rehearsed else replace(full_size(), horizon=50)
    runs = list(compare_runs(result["parts"], gpu, sizes))
    constants = [
        *compare_constants(result["parts"], gpu, runs),
        *compare_attention(result["parts"].get("attention", {}), gpu),
        *compare_compilation(result["parts"].get("compiled", {}), gpu, sizes),
    ]
    console = Console(width=140)
    if rehearsed:
        console.print("a rehearsal on a CPU with the tiny network: these numbers mean nothing")
    for title, rows in (("predicted beside measured", runs), ("constants of the planner", constants)):
        console.print(_table(f"{gpu.title}: {title}", rows))
    for sentence in findings(result["parts"]):
        console.print(f"- {sentence}", soft_wrap=True)
    plain = [{**vars(row), "ratio": row.ratio} for row in (*runs, *constants)]
    result["compared"] = {"rows": plain, "findings": list(findings(result["parts"]))}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def compare_runs(parts: Mapping[str, Any], gpu: Gpu, sizes: ModelConfig) -> Iterator[Compared]:
    """Yield memory and time of each method that was run."""
    for name in METHODS:
        part = parts.get(name, {})
        if "fixed" not in part:
            continue
        config = settings(*part["flags"])
        shapes = Shapes(batch=part["batch"], cameras=CAMERAS, prompt_tokens=PROMPT)
        memory = predict(config, sizes, shapes, gpu=gpu)
        speed = estimate_speed(config, sizes, shapes, memory, gpu, ONE_GPU)
        found = part["fixed"]
        if "allocated_gib" in found:
            peak = memory.peak / GIB
            yield Compared(what=f"{name}: peak", unit="GiB", predicted=peak, measured=found["allocated_gib"])
        if speed is not None:
            rate = part["batch"] / speed.step_seconds
            yield Compared(what=f"{name}: speed", unit=SPEED, predicted=rate, measured=found["samples_per_second"])


def compare_constants(parts: Mapping[str, Any], gpu: Gpu, runs: Sequence[Compared]) -> Iterator[Compared]:
    """Yield what the planner and the roofline take for granted."""
    machine, offload = parts.get("machine", {}), parts.get("offload", {})
    named = {
        "context_gib": ("CUDA_CONTEXT", "GiB", CUDA_CONTEXT / GIB),
        "products_tflops": ("PRODUCTS_SHARE · peak", "TFLOP/s", PRODUCTS_SHARE * gpu.bf16_tflops),
        "bandwidth_gbs": ("BANDWIDTH_SHARE · peak", "GB/s", BANDWIDTH_SHARE * gpu.bandwidth_gbs),
        "launch_us": ("LAUNCH", "µs", 1e6 * LAUNCH),
    }
    for key, (what, unit, predicted) in named.items():
        if key in machine:
            yield Compared(what=what, unit=unit, predicted=predicted, measured=machine[key])
    for key in ("to_device_gbs", "to_host_gbs"):
        if key in offload:
            yield Compared(what=f"HOST_LINK, {key}", unit="GB/s", predicted=HOST_LINK / 1e9, measured=offload[key])
    varying = [part["varying"] for part in parts.values() if "allocated_gib" in part.get("varying", {})]
    if varying:
        worst = max(each["reserved_gib"] / each["allocated_gib"] - 1 for each in varying)
        yield Compared(what="FRAGMENTATION, lengths that vary", unit="share", predicted=FRAGMENTATION, measured=worst)
    full = [row.ratio for row in runs if row.unit == SPEED and row.what.startswith("large")]
    if full:
        yield Compared(what="UTILISATION", unit="share", predicted=UTILISATION, measured=UTILISATION * max(full))


def compare_attention(part: Mapping[str, Any], gpu: Gpu) -> Iterator[Compared]:
    """Yield the share of the peak that each kernel reaches, over all towers at the largest batch of each."""
    rows = [row for row in part.get("rows", []) if "forward_ms" in row]
    largest = {
        tower: max(row["batch"] for row in rows if row["tower"] == tower) for tower in {r["tower"] for r in rows}
    }
    for kernel, share in ATTENTION_SHARE.items():
        of_kernel = [row for row in rows if row["kernel"] == kernel and row["batch"] == largest[row["tower"]]]
        seconds = sum(row["forward_ms"] + row["backward_ms"] for row in of_kernel) / 1e3
        if seconds and gpu.bf16_tflops:
            measured = sum(row["flops"] for row in of_kernel) / seconds / (gpu.bf16_tflops * 1e12)
            what = f"ATTENTION_SHARE, {KERNEL_NAMES[kernel]}"
            yield Compared(what=what, unit="share", predicted=share, measured=measured)


def compare_compilation(part: Mapping[str, Any], gpu: Gpu, sizes: ModelConfig) -> Iterator[Compared]:
    """Yield what compiling takes, and what it leaves of the work that it joins."""
    if "warm" not in part or not gpu.bf16_tflops:
        return
    yield Compared(what="START_SECONDS", unit="s", predicted=START_SECONDS, measured=part["compiling_s"])
    shapes = Shapes(batch=part["batch"], cameras=CAMERAS, prompt_tokens=PROMPT)
    parts = count_operations(settings(*part["flags"]), sizes, shapes).parts(gpu)
    saved = (part["eager"]["step_ms"] - part["warm"]["step_ms"]) / 1e3
    measured = 1 - saved / sum(parts[kind].seconds for kind in FUSED)
    yield Compared(what="FUSED_SHARE", unit="share", predicted=FUSED_SHARE, measured=measured)


def findings(parts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is no number: kernels, waits, bits, failures."""
    for name, part in parts.items():
        if "error" in part:
            yield f"{name} failed: {part['error']}"
        if "left_out" in part:
            yield f"{name} left out: {part['left_out']}"
        if part.get("update") and not part["update"].startswith("the update runs as kernels"):
            yield f"{name} was predicted with kernels of its own for the update: {part['update']}"
    if parts.get("machine", {}).get("expandable_segments") is False:
        yield "memory does not grow in place: PyTorch has not read expandable_segments, which the planner counts on"
    attention = parts.get("attention", {})
    for lengths, probe in attention.get("probes", {}).items():
        if "error" in probe:
            yield f"{lengths}: the probe of attention failed: {probe['error']}"
            continue
        yield f"{lengths}: {probe['line']}{'; ' * bool(probe['switched_off'])}{'; '.join(probe['switched_off'])}"
    for row in attention.get("rows", []):
        if row.get("finite") is False:
            case = f"{row['tower']}, batch {row['batch']}, {row['keys']} keys{', masked' * row['masked']}"
            yield f"attention {case}, {row['way']} ({row['kernel']}): NaN or infinity in the result or a gradient"
        if row["way"] == "as chosen" and row["expected"] and row.get("kernel") not in (None, row["expected"]):
            yield f"attention {row['tower']}, batch {row['batch']}: {row['kernel']}, expected was {row['expected']}"
    mixed = parts.get("mixed", {})
    if "checked_ms" in mixed:
        yield f"looking at the losses: {mixed['plain_ms']:.1f} ms a step without, {mixed['checked_ms']:.1f} with"
    for wait in mixed.get("waits", []):
        yield f"a step waits: {wait}"
    if "profile_error" in mixed:
        yield f"the profiler failed: {mixed['profile_error']}"
    for name, found in parts.get("repeated", {}).items():
        if isinstance(found, dict) and "error" in found:
            yield f"{name} kernels: {found['error']}"
        elif isinstance(found, dict):
            yield f"{name} kernels: same losses {found['same_losses']}, same weights {found['same_weights']}"
    for name, found in parts.get("update", {}).items():
        if isinstance(found, dict) and "ms" in found:
            each = 1e6 * found["ms"] / found["values"]
            yield f"update, {name}: {found['ms']:.2f} ms, {found['host_ms']:.2f} of the host, {each:.3f} ns a value"
    compiled = parts.get("compiled", {})
    if "warm" in compiled:
        gain = compiled["eager"]["step_ms"] / compiled["warm"]["step_ms"]
        yield (
            f"compiled: {gain:.2f} times as fast, {compiled['recompiled_warm']} graphs more when warm; losses within "
            f"{compiled['losses_off']:.1%} of the others, norms of gradients within {compiled['grad_norms_off']:.1%}"
        )


def _table(title: str, rows: list[Compared]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("what", "unit", "predicted", "measured", "measured / predicted"):
        table.add_column(column, justify="left" if column in ("what", "unit") else "right")
    for row in rows:
        table.add_row(row.what, row.unit, f"{row.predicted:.3g}", f"{row.measured:.3g}", f"{row.ratio:.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
