"""Paths inside an exported LeRobot folder, rewritten after it was moved.

LeRobot 0.6.1 resolves them against the working directory, so that they have to be absolute; nothing of ours needs them.
"""

from __future__ import annotations

from pathlib import Path

from pi05.checkpoint.file_fields import AdapterNames, read_fields
from pi05.checkpoint.file_names import ADAPTER_CONFIG
from pi05.checkpoint.lerobot import write_steps
from pi05.checkpoint.lerobot.tokenizer_name import PREPROCESSOR, point_tokenizer, tokenizer_name
from pi05.checkpoint.sidecar import read_sidecar, write_sidecar
from pi05.errors import CheckpointError
from pi05.export.adapter_base import FOLDER
from pi05.export.verify import file_facts
from pi05.files import write_json


def relocate(folder: str | Path, *, base_name: str | None = None) -> list[str]:
    """Make an exported LeRobot folder name its tokenizer by the path where it lies now; return what was changed.

    `base_name`: what an adapter's base is called from now on; a base that was written along is found again without it.
    Raises CheckpointError for another kind of folder.
    """
    folder = Path(folder).absolute()
    values = read_sidecar(folder) if folder.is_dir() else None
    if values is None or not str(values.get("layout")).startswith("lerobot"):
        raise CheckpointError(
            "this folder has no paths to rewrite",
            wanted="a folder that pi05 export --to lerobot wrote",
            found=str(folder) if folder.exists() else f"nothing at {folder}",
            remedy="give that folder; others hold no absolute path",
        )
    changed = []
    before, now = tokenizer_name(folder), str(folder / write_steps.TOKENIZER_FOLDER)
    if before != now and Path(before).is_absolute():
        point_tokenizer(folder, now)
        changed.append((PREPROCESSOR, f"tokenizer_name {before} → {now}"))
    if base_name is None and (values.get("base") or {}).get("path") == FOLDER:
        base_name = str(folder / FOLDER)
    if base_name is not None:
        adapter = read_fields(folder / ADAPTER_CONFIG, AdapterNames)
        if adapter.get("base_model_name_or_path") != base_name:
            write_json(folder / ADAPTER_CONFIG, {**adapter, "base_model_name_or_path": base_name})
            changed.append((ADAPTER_CONFIG, f"base {adapter.get('base_model_name_or_path')} → {base_name}"))
    if changed:
        files = {**values.get("files", {}), **{name: file_facts(folder / name) for name, _ in changed}}
        write_sidecar(folder, {**values, "files": files})
    return [f"{name}: {text}" for name, text in changed]
