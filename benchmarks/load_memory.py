"""Measure how much memory loading a checkpoint takes above the network itself, at full size.

Writes checkpoints with random weights tensor by tensor, loads each in a process of its own, and samples that process's
anonymous memory every millisecond. Left out are pages of mapped files, which the system takes back when it needs room,
and the modules of torch that the first network in a process imports (70 MB). The bound is one copy of the file's
largest tensor above the network.

    python benchmarks/load_memory.py                 all cases; 10 GB of disk at a time, removed afterwards
    python benchmarks/load_memory.py --cases jax     only the cases with this word in their name; others of today stay

Cases that this machine has not the memory for are listed as skipped. The result goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

GB = 1e9
PAGE = 4096
SPARE = 2.0e9
"""Memory and disk that must be left over, in bytes."""
SLACK = 0.1e9
"""Of the bound, in bytes: what Python, the allocator and tensorstore's own buffers take."""


@dataclass(frozen=True)
class Case:
    """One checkpoint and the precision that it is loaded into."""

    name: str
    write: Callable[[Path, Any], None]
    sizes: dict[str, int]
    dtype: str
    file_bytes_per_parameter: int


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="", help="a word in the names of the cases to run")
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoints are written (default: the system's temporary)"
    )
    parser.add_argument("--measure", nargs=3, metavar=("PATH", "DTYPE", "SIZES"), help=argparse.SUPPRESS)
    parser.add_argument("--naive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, dtype, sizes = arguments.measure
        print(json.dumps(measure(Path(path), getattr(torch, dtype), json.loads(sizes), arguments.naive)))
        return
    rows = list(run(arguments.cases, arguments.folder))
    print_table(rows)
    from pi05.machine import machine_info

    today = date.today().isoformat()
    path = Path(__file__).parent / "results" / f"load_memory_{today}.json"
    earlier = json.loads(path.read_text())["cases"] if path.is_file() else []
    kept = [row for row in earlier if row["case"] not in {new["case"] for new in rows}]
    result = {"date": today, "machine": machine_info(), "unit": "GB = 1e9 bytes", "cases": [*kept, *rows]}
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(path)
    if not all(row.get("within_bound", True) for row in rows):
        sys.exit("loading took more than one copy of the largest tensor above the network")


def cases() -> list[Case]:
    """Return what is measured; the JAX folders, float32, at full widths with four layers of each tower."""
    four = {"depth": 4, "vision_depth": 4}
    return [
        Case("LeRobot, full size, bfloat16 file", write_lerobot, {}, "bfloat16", 2),
        Case("LeRobot, full size, bfloat16 file", write_lerobot, {}, "float32", 2),
        Case("openpi jax, four layers, one chunk per leaf", write_jax_whole, four, "bfloat16", 4),
        Case("openpi jax, four layers, one chunk per leaf", write_jax_whole, four, "float32", 4),
        Case("openpi jax, four layers, one chunk per layer", write_jax_layers, four, "bfloat16", 4),
        Case("openpi jax, four layers, one chunk per layer", write_jax_layers, four, "float32", 4),
    ]


def run(word: str, folder: Path | None) -> list[dict[str, Any]]:
    """Write each checkpoint once, and load it in each precision."""
    from pi05.model.config import ModelConfig

    rows: list[dict[str, Any]] = []
    chosen = [case for case in cases() if word in case.name]
    for name in dict.fromkeys(case.name for case in chosen):
        same = [case for case in chosen if case.name == name]
        config = ModelConfig(**same[0].sizes)
        parameters = sum(math.prod(shape) for shape in our_shapes(config).values())
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            needed = (parameters + 5.3e8) * same[0].file_bytes_per_parameter + SPARE
            if (free := shutil.disk_usage(temporary).free) < needed:
                rows.append({"case": name, "skipped": f"{free / GB:.1f} GB of disk, {needed / GB:.1f} needed"})
                continue
            same[0].write(Path(temporary), config)
            for case in same:
                rows.append({"case": name, "into": case.dtype} | load(Path(temporary), case, parameters, config))
                print(rows[-1], flush=True)
    return rows


def load(path: Path, case: Case, parameters: int, config: Any) -> dict[str, Any]:
    """Load in a process of its own and return what it measured, or why it was not done."""
    needed = parameters * getattr(torch, case.dtype).itemsize + 2.2e9 + SPARE
    if (available := memory_available()) < needed:
        return {"skipped": f"{available / GB:.1f} GB of memory, {needed / GB:.1f} needed"}
    command = [sys.executable, __file__, "--measure", str(path), case.dtype, json.dumps(config.to_dict())]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return in_gb(json.loads(answer.stdout))


def measure(path: Path, dtype: torch.dtype, sizes: dict[str, int], naive: bool) -> dict[str, Any]:
    """Load the checkpoint at `path` in this process and return bytes: the network, its largest tensor, the peak above.

    `naive` holds the file and the network at once, as peers do, so that a test can see that the peak is seen.
    """
    from pi05.checkpoint.load import read_model
    from pi05.checkpoint.locate import locate
    from pi05.checkpoint.weights import open_tensors
    from pi05.model.config import ModelConfig

    config = ModelConfig(**sizes)
    location = locate(path)
    source = open_tensors(location)
    shapes = source.shapes
    largest = max(shapes, key=lambda name: math.prod(shapes[name]))
    width = next(source.parts(largest, [(0,)])).element_size()
    del source, shapes
    our_shapes(config)  # the first network imports modules of torch
    peak = Peak()
    started = time.perf_counter()
    held = hold_everything(location) if naive else None
    model, receipt = read_model(location, dtype=dtype, config=config)
    seconds = time.perf_counter() - started
    highest = peak.stop()
    del held
    network = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    shapes = {name: tuple(shape) for name, shape in open_tensors(location).shapes.items()}
    return {
        "file": receipt.bytes,
        "network": network,
        "largest_tensor": math.prod(shapes[largest]) * width,
        "peak_above_network": highest - network,
        "seconds": round(seconds, 1),
    }


def hold_everything(location: Any) -> list[torch.Tensor]:
    """Read all tensors into memory at once."""
    from pi05.checkpoint.weights import open_tensors

    source = open_tensors(location)
    return [source.read(name).clone() for name in source.shapes]


class Peak:
    """The highest anonymous memory of this process above that at the start, sampled by a thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._start = self._highest = anonymous_bytes()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            self._highest = max(self._highest, anonymous_bytes())

    def stop(self) -> int:
        """End the watch and return the peak in bytes above the start."""
        self._stop.set()
        self._thread.join()
        return max(self._highest, anonymous_bytes()) - self._start


def anonymous_bytes() -> int:
    """Return the resident memory of this process that no file stands behind."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = (int(number) for number in file.read().split())
    return (resident - shared) * PAGE


def memory_available() -> int:
    """Return the memory that the system can give without swapping, in bytes."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def in_gb(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the measured bytes in GB, and whether the bound was kept."""
    within = measured["peak_above_network"] <= measured["largest_tensor"] + SLACK
    numbers = {key: round(value / GB, 3) for key, value in measured.items() if key != "seconds"}
    return {**numbers, "seconds": measured["seconds"], "within_bound": within}


def our_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return our parameters' shapes."""
    from pi05.model.pi05 import Pi05

    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in Pi05(config).named_parameters()}


def draw(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return small random weights."""
    return torch.empty(shape, dtype=dtype).normal_(0, 0.02)


def write_lerobot(folder: Path, config: Any) -> None:
    """Write a LeRobot folder in bfloat16 with the tied head in the place of the embedding, as the published base."""
    from pi05.checkpoint.lerobot.names import PREFIX, lerobot_layout
    from pi05.checkpoint.openpi.names import EMBEDDING, EXPERT_HEAD, LANGUAGE_HEAD
    from pi05.checkpoint.safetensors_writer import LazyTensor, write_safetensors

    layout = lerobot_layout(config.depth, config.vision_depth)
    shapes = layout.foreign_shapes(our_shapes(config))
    shapes[PREFIX + LANGUAGE_HEAD] = shapes.pop(PREFIX + EMBEDDING)
    shapes[PREFIX + EXPERT_HEAD] = (config.vocab_size, config.expert_width)
    tensors = {
        name: LazyTensor(shape, torch.bfloat16, partial(draw, shape, torch.bfloat16)) for name, shape in shapes.items()
    }
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"type": "pi05"}))


def write_jax_whole(folder: Path, config: Any) -> None:
    """Write an orbax folder with each leaf in one piece, as one device writes it."""
    write_jax(folder, config, lambda shape: shape)


def write_jax_layers(folder: Path, config: Any) -> None:
    """Write an orbax folder with the stacked leaves cut into layers."""
    write_jax(folder, config, lambda shape: (1, *shape[1:]))


def write_jax(folder: Path, config: Any, chunks: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
    """Write the float32 leaves of openpi's JAX model into an OCDBT database of zarr arrays."""
    import tensorstore

    from pi05.checkpoint.openpi.jax_names import jax_layout

    item = folder / "params"
    item.mkdir()
    for leaf, shape in jax_layout(config).foreign_shapes(our_shapes(config)).items():
        pieces = chunks(shape) if "layers/" in leaf or "encoderblock/" in leaf else shape
        key = f"params.{leaf.replace('/', '.')}.value/"
        kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{item}/"}, "path": key}
        metadata = {"shape": shape, "chunks": pieces, "dtype": "<f4", "compressor": {"id": "zstd", "level": 1}}
        array = tensorstore.open({"driver": "zarr", "kvstore": kvstore, "metadata": metadata}, create=True).result()
        array.write(draw(shape, torch.float32).numpy()).result()


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one line per case."""
    print(f"\n{'case':<46} {'into':<9} {'file':>6} {'network':>8} {'largest':>8} {'extra':>7} {'seconds':>8}")
    for row in rows:
        if "skipped" in row:
            print(f"{row['case']:<46} {row.get('into', ''):<9} skipped: {row['skipped']}")
        else:
            numbers = (row["file"], row["network"], row["largest_tensor"], row["peak_above_network"], row["seconds"])
            print(f"{row['case']:<46} {row['into']:<9} {'{:6.2f} {:8.2f} {:8.2f} {:7.2f} {:8.1f}'.format(*numbers)}")


if __name__ == "__main__":
    main()
