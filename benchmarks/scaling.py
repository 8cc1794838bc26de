"""How training speed and memory change with the number of processes: the real `pi05 train` under the real torchrun.

    python benchmarks/scaling.py --dataset.root=FOLDER --processes 1 2 [--steps 20] [-- further flags of pi05 train]

Every run has the same samples per step, so that all of them are the same training; the largest difference of their
losses from those of one process is shown. Without a GPU the processes share the CPU's cores and talk through gloo: then
the table shows what distribution costs on that machine and that memory is divided, not how many GPUs would scale.
Prints a table and writes benchmarks/results/scaling_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pi05.machine import machine_info


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset.root", dest="root", required=True)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--global_batch_size", type=int, default=8)
    parser.add_argument("flags", nargs="*", default=[], help="further flags of pi05 train, after --")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for count in arguments.processes:
        for kind in ("ddp", "fsdp"):
            rows.append(measure(arguments, count, kind))
    for row in rows:
        row["difference"] = max(abs(a - b) / abs(b) for a, b in zip(row["losses"], rows[0]["losses"], strict=True))
    gpu = torch.cuda.is_available()
    result = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "device": torch.cuda.get_device_name() if gpu else "CPU, gloo, one thread per process",
        "steps": arguments.steps,
        "global_batch_size": arguments.global_batch_size,
        "flags": arguments.flags,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"scaling_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    show(rows, path)


def measure(arguments: argparse.Namespace, count: int, kind: str) -> dict[str, Any]:
    """Run one training and return its numbers; the first fifth of its steps warms up."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [
            *("--preset=tiny", f"--dataset.root={arguments.root}", f"--output_dir={run}", f"--parallel={kind}"),
            *(f"--steps={arguments.steps}", f"--global_batch_size={arguments.global_batch_size}"),
            *("--log_freq=1", "--eval_steps=0", "--threads=1", f"--save_freq={arguments.steps}", *arguments.flags),
        ]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        done = subprocess.run(
            [*launcher, "-m", "pi05", "train", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["type"] == "train"]
    timed = steps[len(steps) // 5 :]
    held = re.search(r"rank 0 holds ([\d.]+) of ([\d.]+) MB of weights", done.stdout)
    return {
        "processes": count,
        "kind": kind,
        "samples_per_second": len(timed) / sum(1 / line["samples_per_second"] for line in timed),
        "save_seconds": next(line["seconds"] for line in lines if line["type"] == "save"),
        "peak_memory_gb": steps[-1]["memory_gb"],
        "share_of_weights": 1.0 if held is None else float(held[1]) / float(held[2]),
        "losses": [line["loss"] for line in steps],
    }


def show(rows: list[dict[str, Any]], path: Path) -> None:
    """Print the table."""
    table = Table(title=f"Scaling ({path.name})", title_justify="left")
    for column in (
        "processes",
        "parallel",
        "samples/s",
        "weights per process",
        "peak memory",
        "save",
        "loss differs by",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row['processes']}",
            row["kind"],
            f"{row['samples_per_second']:.1f}",
            f"{row['share_of_weights']:.0%}",
            f"{row['peak_memory_gb']:.2f} GB",
            f"{row['save_seconds']:.1f} s",
            f"{row['difference']:.1e}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
