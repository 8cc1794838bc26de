"""A data set in a few lines, as a notebook shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pi05.data.cameras import assign_slots
from pi05.errors import DataError, visible

MOST_TASKS, MOST_NAMES = 5, 12


@runtime_checkable
class Describable(Protocol):
    """As much of a data set as is told."""

    root: Path
    version: str
    robot_type: str | None
    fps: float
    num_episodes: int
    num_frames: int
    features: dict[str, dict[str, Any]]
    camera_keys: list[str]
    state_names: list[str]
    action_names: list[str]
    tasks: list[str]


def describe(dataset: Describable) -> str:
    """Return name, amount, rate, cameras with the slots that their names give them, state, actions, tasks."""
    robot = f", robot {dataset.robot_type}" if dataset.robot_type else ""
    seconds = dataset.num_frames / dataset.fps
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
    lines = [
        f"Dataset {dataset.root} (LeRobot {dataset.version}{robot})",
        f"  {dataset.num_episodes:,} episodes, {dataset.num_frames:,} frames at {dataset.fps:g} Hz ({time})",
        *(f"  camera   {camera}" for camera in _cameras(dataset)),
        f"  state    {len(dataset.state_names)}: {_some(dataset.state_names, MOST_NAMES)}",
        f"  action   {len(dataset.action_names)}: {_some(dataset.action_names, MOST_NAMES)}",
        *(f"  task     {task}" for task in dataset.tasks[:MOST_TASKS]),
        *[f"  task     and {len(dataset.tasks) - MOST_TASKS} more"] * (len(dataset.tasks) > MOST_TASKS),
    ]
    return visible("\n".join(lines))


def _cameras(dataset: Describable) -> list[str]:
    try:
        slots = {camera: slot for slot, camera in assign_slots(dataset.camera_keys).by_slot.items()}
    except DataError:  # names that tell no slot: --rename_map or --drop_cameras will
        slots = {}
    shapes = {name: dataset.features[name].get("shape") or [] for name in dataset.camera_keys}
    return [
        " ".join(
            [name, " × ".join(map(str, shapes[name])) or "of unknown size", "→", slots.get(name, "no slot by its name")]
        )
        for name in dataset.camera_keys
    ]


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
