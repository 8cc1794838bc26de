"""The base below an adapter that is exported alone: whether LeRobot can read it, and writing it beside the adapter.

LeRobot reads a base as a folder with `model.safetensors` under its own names, and where that fails it prints a line and
goes on with random weights. So a base of any other kind is written along (`--with_base`, into OUT/base), or the caller
names one that holds the same weights. Leaves out the adapter itself (`folders.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pi05.checkpoint.file_names import CONFIG, WEIGHTS
from pi05.checkpoint.lerobot import write as write_lerobot
from pi05.checkpoint.load import read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.locate_base import AdapterBase, recorded_quantization
from pi05.checkpoint.safetensors_writer import write_safetensors
from pi05.checkpoint.sidecar import read_sidecar, write_sidecar
from pi05.checkpoint.tensors import hash_file
from pi05.errors import CheckpointError
from pi05.export.source import Source
from pi05.files import write_json
from pi05.model.config import ModelConfig

FOLDER = "base"
"""Where a base that is written along lies in the adapter's folder."""
LAYOUT = "LeRobot"


def adapter_base(opened: Source) -> Path:
    """Return the absolute path of the base that an adapter was loaded on."""
    if opened.receipt.base is None:
        raise ValueError(f"{opened.folder} is no adapter")
    return Path(opened.receipt.base.source).resolve()


def require_base_for_lerobot(opened: Source, base_name: str | None, with_base: bool) -> None:
    """Raise CheckpointError for an adapter that LeRobot would put onto other weights than it was trained on."""
    kind = None if opened.location.adapter is None else recorded_quantization(opened.location.adapter)
    if kind is not None:
        raise CheckpointError(
            "the adapter was trained on a quantised base, and LeRobot would put it onto the original one",
            wanted="an adapter of a run with --method lora",
            found=f"a base in {kind}: {opened.folder}",
            remedy="leave --adapter_only out, and it is merged with the weights that it was trained on; or --to pi05",
        )
    if with_base:
        return
    if base_name is None:
        _require_readable(opened, adapter_base(opened))
    elif Path(base_name).expanduser().exists():
        _require_same_weights(opened, Path(base_name).expanduser())


def base_notes(base_name: str | None) -> list[str]:
    """Return what could not be checked about the base that the caller named, as sentences."""
    if base_name is None or Path(base_name).expanduser().exists():
        return []
    return [
        f"the base {base_name} is not on this machine, so nobody has checked that it holds this adapter's "
        "base in LeRobot's layout; LeRobot runs on random weights where it does not"
    ]


def write_base(folder: Path, base: AdapterBase, sizes: ModelConfig, config: dict[str, Any]) -> dict[str, Any]:
    """Write the base's weights in LeRobot's layout, float32; return path and hash as pi05.json records them.

    `folder` is the adapter's. The path is relative to it, so that both can be moved together.
    """
    model, _ = read_model(base.location, "cpu", torch.float32, sizes, base=base.below)
    out = folder / FOLDER
    out.mkdir()
    write_safetensors(out / WEIGHTS, write_lerobot.lerobot_tensors(model, torch.float32), write_lerobot.METADATA)
    write_json(out / CONFIG, config)
    write_sidecar(out, {"layout": "lerobot-base", "dtype": "float32", "model": sizes.to_dict()})
    return {"path": FOLDER, "sha256": hash_file(out / WEIGHTS)}


def _require_readable(opened: Source, path: Path) -> None:
    """Raise CheckpointError for a base that is not as LeRobot reads it."""
    below = opened.receipt.base
    layout = None if below is None else below.layout
    if layout == LAYOUT and (path / WEIGHTS).is_file():
        return
    raise CheckpointError(
        "LeRobot cannot read the base of this adapter, and would run it on random weights",
        wanted=f"a base in LeRobot's layout, a folder with one {WEIGHTS}",
        found=f"{layout}: {path}",
        remedy="add --with_base, which writes the base beside the adapter, or leave --adapter_only out to merge both",
    )


def _require_same_weights(opened: Source, path: Path) -> None:
    """Raise CheckpointError when a folder on this machine is not the adapter's base in LeRobot's layout.

    It is when its file has the base's hash, or when `pi05 export` wrote it from the base in float32.
    """
    wanted = None if opened.receipt.base is None else opened.receipt.base.sha256
    weights = path / WEIGHTS
    if not weights.is_file() or locate(path).kind != "lerobot":
        raise CheckpointError(
            "the base that --base_name names is not one that LeRobot can read",
            wanted=f"a folder in LeRobot's layout, with one {WEIGHTS}",
            found=str(path),
            remedy="leave --base_name out and add --with_base, which writes the base beside the adapter",
        )
    found, facts = hash_file(weights), read_sidecar(path) or {}
    recorded = ((facts.get("files") or {}).get(WEIGHTS) or {}).get("sha256")
    made_of = (facts.get("source") or {}).get("sha256") if facts.get("dtype") == "float32" else None
    if found != wanted and (made_of != wanted or recorded != found):
        raise CheckpointError(
            "the base that --base_name names may hold other weights than the adapter was trained on",
            wanted=f"the weights of {adapter_base(opened)}, SHA-256 {wanted}, or their export in float32",
            found=f"{path}, SHA-256 {found}",
            remedy="leave --base_name out and add --with_base, which writes the base beside the adapter",
        )
