"""What a LeRobot folder calls its tokenizer, read and rewritten. Torch-free.

The name stands in `policy_preprocessor.json`, in the settings of whichever step has one; steps come in any order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pi05.errors import CheckpointError
from pi05.files import read_json, read_notes, write_json

PREPROCESSOR = "policy_preprocessor.json"
NAME = "tokenizer_name"


def find_tokenizer_name(folder: Path) -> str | None:
    """Return the name that a folder has for its tokenizer: a path, or a repository; None where it has none."""
    return next((str(settings[NAME]) for settings in _settings(read_notes(folder / PREPROCESSOR))), None)


def tokenizer_name(folder: Path) -> str:
    """Return the `tokenizer_name` of a LeRobot folder. Raises CheckpointError when it has none."""
    name = find_tokenizer_name(folder)
    if name is None:
        raise CheckpointError(
            "the folder has no LeRobot processor with a tokenizer",
            wanted=f"a step with {NAME} in {PREPROCESSOR}",
            found=str(folder),
            remedy="give a folder that pi05 export --to lerobot wrote",
        )
    return name


def point_tokenizer(folder: Path, name: str) -> None:
    """Rewrite the `tokenizer_name` of a LeRobot folder, atomically."""
    tokenizer_name(folder)
    values: dict[str, Any] = read_json(folder / PREPROCESSOR)
    for settings in _settings(values):
        settings[NAME] = name
    write_json(folder / PREPROCESSOR, values)


def _settings(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of all steps that name a tokenizer."""
    listed = values.get("steps")
    steps = [step.get("config") for step in listed if isinstance(step, dict)] if isinstance(listed, list) else []
    return [settings for settings in steps if isinstance(settings, dict) and isinstance(settings.get(NAME), str)]
