"""Reading a run folder, at any moment: while it trains, when it is done, after a crash.

Nothing here fails because a part is not there yet; `missing` says which parts are not. A file that is there and cannot
be read is told as well. Leaves out what the content tells (`run_record.py`) and the page (`pages/run.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from PIL import Image

from pi05.checkpoint.run_folder import list_checkpoints, pointed
from pi05.checkpoint.store import OPTIMIZER, TRAINING, WEIGHTS, is_adapter, read_checkpoint_config
from pi05.errors import EvaluationError, UserError
from pi05.files import parse_json, read_regular, require_regular
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.settings.fields import find_fault
from pi05.train.records.fields import OpenLoop, RecordFields, Results, RunConfig, Sample
from pi05.train.records.run_record import Record, RunRecord, SeenSample

LARGEST_METRICS = 2**31
"""Bytes of the largest `metrics.jsonl` that is read."""

PARTS = {
    "vision": "vision tower",
    "embedding": "token embedding",
    "language": "language model",
    "expert": "action expert",
    **dict.fromkeys(("action_in", "action_out", "time_in", "time_out"), "action and time projections"),
}
"""What people call the modules of the network."""


def read_run(folder: Path) -> RunRecord:
    """Read a run folder. Raises EvaluationError when it is none: no configuration and no metrics."""
    metrics = folder / "metrics.jsonl"
    if not (folder / "config.json").is_file() and not metrics.is_file():
        raise EvaluationError(
            "this is not a run",
            wanted="a folder with config.json and metrics.jsonl",
            found=f"{folder} {'holds neither' if folder.is_dir() else 'is not a folder'}",
            remedy="give the output folder of pi05 train",
        )
    missing: list[str] = []
    records = _read_lines(metrics, missing)
    config = _read_object(folder / "config.json", RunConfig, missing)
    best, checkpoints = pointed(folder, "best"), list_checkpoints(folder)
    return RunRecord(
        folder=folder,
        config=config,
        receipt=_read_object(folder / "receipt.json", dict[str, Any], missing),
        records=records,
        samples=_samples(folder / "step0", missing),
        parameters=_parameters(checkpoints, missing),
        checkpoints=[path.name for path in checkpoints],
        best_checkpoint=None if best is None else best.name,
        evaluations=_evaluations(folder, missing),
        open_loop=_open_loop(folder, missing),
        missing=missing,
        idle_s=time.time() - metrics.stat().st_mtime if records else None,
    )


def _read_lines(path: Path, missing: list[str]) -> list[Record]:
    """Read the complete lines; a killed process leaves a half-written last one."""
    if not path.is_file():
        missing.append("metrics.jsonl: no step has been logged yet")
        return []
    records, broken = [], []
    lines = read_regular(path, LARGEST_METRICS).decode(errors="replace").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
        except ValueError:
            record = None
        if find_fault(RecordFields, record) is None:
            records.append(record)
        elif line.strip():
            broken.append(number)
    if broken == [len(lines)]:
        missing.append("metrics.jsonl: its last line is cut off and is left out")
    elif broken:
        missing.append(f"metrics.jsonl: {len(broken)} lines cannot be read, the first is line {broken[0]}")
    if not records:
        missing.append("metrics.jsonl: no step has been logged yet")
    return records


def _read_object(path: Path, kind: Any, missing: list[str]) -> Record:
    return _read_json(path, kind, missing) or {}


def _read_json(path: Path, kind: Any, missing: list[str]) -> Any:
    """Return the content of a file; None, and an entry in `missing`, for one that is not there or is damaged."""
    deeper = path.parent.name == "step0" or path.name in ("results.json", "open_loop.json")
    name = f"{path.parent.name}/{path.name}" if deeper else path.name
    try:
        value = parse_json(read_regular(path).decode("utf-8"))
        fault = find_fault(kind, value)
        if fault is None:
            return value
        where = f"{fault.field} is {fault.found}" if fault.field else fault.found
        missing.append(f"{name}: {where}, where {fault.wanted} should be")
    except FileNotFoundError:
        missing.append(f"{name}: not there")
    except (OSError, ValueError) as error:
        missing.append(f"{name}: cannot be read ({error})")
    return None


def _samples(folder: Path, missing: list[str]) -> list[SeenSample]:
    """Read prompts.json, which names the pictures; the frame before augmentation lies beside each."""
    samples: list[SeenSample] = []
    for entry in _read_json(folder / "prompts.json", list[Sample], missing) or ():
        names = {}
        for slot, name in (entry.get("images") or {}).items():
            if Path(name).name != name or not Path(name).suffix:
                missing.append(f"step0/prompts.json: names the picture {name[:60]!a}, which is none of the folder")
            else:
                names[slot] = folder / name
        originals = {slot: path.with_name(f"{path.stem}_raw{path.suffix}") for slot, path in names.items()}
        facts = [f"{key} {entry[key]}" for key in ("frame", "tokens") if key in entry]
        samples.append(
            SeenSample(
                title=" · ".join([f"sample {entry.get('sample', len(samples))}", *facts]),
                prompt=str(entry.get("prompt", "")),
                pictures=_readable(names, missing),
                originals=_readable(originals, missing),
            )
        )
    return samples


def _readable(pictures: Mapping[str, Path], missing: list[str]) -> list[tuple[str, Path]]:
    """Return the pictures that are there and whole."""
    found = []
    for slot, path in pictures.items():
        try:
            require_regular(path)
            with Image.open(path) as picture:
                picture.verify()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # of Pillow for damaged files
            missing.append(f"step0/{path.name}: cannot be shown ({type(error).__name__})")
        else:
            found.append((slot, path))
    return found


def _parameters(checkpoints: Sequence[Path], missing: list[str]) -> dict[str, tuple[int, int]]:
    """Count the parameters of each part in the newest checkpoint; trained are those that the optimizer has moved."""
    if not checkpoints:
        missing.append("parameters: counted from a checkpoint, and none was saved yet")
        return {}
    counts: dict[str, list[int]] = {}
    try:
        moments = _shapes(checkpoints[-1] / TRAINING / OPTIMIZER)
        moved = {name.partition("/")[2] for name in moments}
        if is_adapter(checkpoints[-1]):
            shapes = _network_shapes(checkpoints[-1])
            shapes |= {name.partition("/")[2]: shape for name, shape in moments.items() if name.startswith("exp_avg/")}
        else:
            shapes = _shapes(checkpoints[-1] / WEIGHTS)
    except (OSError, safetensors.SafetensorError, UserError, KeyError) as error:
        missing.append(f"parameters: {checkpoints[-1].name} cannot be read ({error})")
        return {}
    for name, shape in shapes.items():
        part = counts.setdefault(PARTS.get(name.partition(".")[0], name), [0, 0])
        part[0 if name in moved else 1] += math.prod(shape)
    return {part: (trained, untouched) for part, (trained, untouched) in counts.items()}


def _network_shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes below an adapter; the checkpoint holds none of those tensors."""
    with torch.device("meta"):
        model = Pi05(ModelConfig.from_dict(read_checkpoint_config(checkpoint)["model"]))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safetensors.safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dictionary)


def _evaluations(folder: Path, missing: list[str]) -> list[Record]:
    """Return the evaluations that lie in the run folder, each with its folder's name."""
    found = []
    for path in sorted(folder.glob("eval-*/results.json")):
        value = _read_json(path, Results, missing)
        if value is not None:
            environment = {"name": "", "family": "", **(value.get("environment") or {})}
            known = {"swapped_success": None, "date": "", **value, "policy": value.get("policy") or {}}
            found.append({**known, "environment": environment, "folder": path.parent.name})
    return found


def _open_loop(folder: Path, missing: list[str]) -> list[Record]:
    """Return the evaluations on recorded episodes that lie in the run folder, one entry for each of their policies."""
    found = []
    for path in sorted(folder.glob("*/open_loop.json")):
        value = _read_json(path, OpenLoop, missing)
        if value is None:
            continue
        shared = {
            "folder": path.parent.name,
            "root": str((value.get("data") or {}).get("root", "")),
            "episodes": len(value.get("episodes", ())),
            "asked": value.get("asked", ""),
            "baseline": min(((one["error"], name) for name, one in value["baselines"].items()), default=None),
            "date": value.get("date", ""),
        }
        found += [shared | {"step": one.get("step"), "error": one["error"]} for one in value["policies"]]
    return found
