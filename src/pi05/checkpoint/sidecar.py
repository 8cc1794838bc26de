"""`pi05.json`: what a foreign folder cannot tell of a policy, written beside LeRobot's and openpi's own files.

It holds the network's sizes, the control rate, the prompt format, where the weights are from, what merging changed, and
the facts of the stored probe. LeRobot's and openpi's own files stay the truth for everything that they tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pi05
from pi05.checkpoint.file_fields import Sidecar, about, require_fields
from pi05.data.joined import columns_from_list
from pi05.data.lerobot.vectors import Column
from pi05.errors import CheckpointError
from pi05.files import read_json, write_json

SIDECAR = "pi05.json"
FORMAT = "pi05-export"
FORMAT_VERSION = 1


def write_sidecar(folder: Path, values: Mapping[str, Any]) -> None:
    """Write `folder/pi05.json`, atomically; format, its version and pi05's version are added."""
    own = {"format": FORMAT, "format_version": FORMAT_VERSION, "pi05_version": pi05.__version__}
    write_json(folder / SIDECAR, {**own, **{key: value for key, value in values.items() if key not in own}})


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """Read `folder/pi05.json`; None when there is none.

    Raises CheckpointError when it is damaged, is something else, or was written by a newer pi05.
    """
    path = folder / SIDECAR
    if not path.is_file():
        return None
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not what pi05 export writes",
            wanted=f'"format": "{FORMAT}"',
            found=repr(values.get("format")),
            remedy="restore the file, or remove it: sizes and control rate are then asked for where they are needed",
        )
    version = values.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by a newer pi05",
            wanted=f"format_version up to {FORMAT_VERSION}",
            found=f"{version!r}, pi05 {values.get('pi05_version')}",
            remedy="upgrade pi05",
        )
    require_fields(values, Sidecar, path)
    return values


def read_columns(
    sidecar: Mapping[str, Any], folder: Path, state_dim: int, action_dim: int
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Return the columns that state and action were joined from; none where `pi05.json` names none.

    Raises DataError naming the file where they are other numbers than the statistics have.
    """
    with about(folder / SIDECAR):
        return (
            columns_from_list(sidecar.get("state_columns"), state_dim),
            columns_from_list(sidecar.get("action_columns"), action_dim),
        )
