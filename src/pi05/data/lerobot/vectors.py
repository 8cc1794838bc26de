"""Which columns are the state and the action: one of LeRobot's names, or those that the user joins, in his order.

Many sets keep joints and gripper in columns of their own (openpi's DROID converter). Nothing is joined by itself: the
error for a set without a state or an action proposes the flag. Leaves out reading the values (`columns.py`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from pi05.data.lerobot.dimensions import Dimensions, name_dimensions, tell_apart
from pi05.data.lerobot.files import machine_memory, wrong_content
from pi05.data.lerobot.index_columns import INDEX_COLUMNS
from pi05.data.lerobot.layout import is_camera
from pi05.errors import DataError
from pi05.settings.fields import LARGEST_INT, shown
from pi05.types import ACTION, STATE

Kind = Literal["state", "action"]
KNOWN_NAMES: dict[Kind, tuple[str, ...]] = {"state": (STATE, "state"), "action": (ACTION, "actions")}
"""Names under which state and action are found, in this order."""
LARGEST_VECTOR = 2**16
"""Numbers of the largest state or action that is read."""
_PREFIX = "observation."
_ACTION = re.compile(r"(^|[._/])actions?([._/]|$)")
_NO_STATE = re.compile(r"^next[._/]|reward|done|success")


@dataclass(frozen=True)
class Column:
    """One column of a data set, by its own name."""

    name: str
    size: int
    """Numbers in every frame; 1 for a number that stands alone."""


@dataclass(frozen=True)
class Vector:
    """The state or the action: its columns in order, and the names of its dimensions."""

    key: str
    """The name under which the data set gives it: that of its column, or LeRobot's where columns were chosen."""
    columns: tuple[Column, ...]
    chosen: bool
    """Whether the user named the columns."""
    dimensions: Dimensions

    @property
    def size(self) -> int:
        """Its numbers in every frame."""
        return sum(column.size for column in self.columns)

    @property
    def chosen_columns(self) -> tuple[Column, ...]:
        """The columns that the user named, for the checkpoint; none where it is a column of a known name."""
        return self.columns if self.chosen else ()

    def join(self, values: Mapping[str, np.ndarray]) -> Float32[np.ndarray, "rows size"]:
        """Return the vector of each row from the values of the columns, [rows, size] each."""
        parts = [values[column.name] for column in self.columns]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def choose_vector(
    kind: Kind, features: Mapping[str, Mapping[str, Any]], chosen: Sequence[str] | None, info_path: Path
) -> Vector:
    """Return the state or the action of a data set with these features; `chosen` are the columns that the user joins.

    Raises DataError for columns that are not there or hold no numbers, and where nothing is chosen and none has one of
    the known names.
    """
    if chosen is not None:
        names = [_resolve(kind, name, features, info_path) for name in chosen]
        if len(set(names)) < len(names):
            raise DataError(
                f"--dataset.{kind} names a column twice",
                wanted="every column once",
                found=", ".join(names),
                remedy=f"correct --dataset.{kind}",
            )
    else:
        names = [name for name in KNOWN_NAMES[kind] if name in features][:1]
        if not names:
            raise _missing(kind, features, info_path)
    columns = tuple(Column(name, _size(name, features[name], info_path)) for name in names)
    key = names[0] if chosen is None else KNOWN_NAMES[kind][0]
    return Vector(key, columns, chosen is not None, _dimensions(key, columns, features))


def find_broken(vectors: Mapping[str, Vector], values: Mapping[str, np.ndarray]) -> tuple[int, str] | None:
    """Return in how many rows one of the vectors is not finite, and where first; None where all are.

    `vectors` are named by what they are: state, action.
    """
    flat = {name: column.reshape(len(column), -1).astype(np.float32) for name, column in values.items()}
    broken = {kind: ~np.isfinite(vector.join(flat)) for kind, vector in vectors.items()}
    rows = np.flatnonzero(np.logical_or.reduce([hit.any(1) for hit in broken.values()]))
    if not len(rows):
        return None
    kind = next(kind for kind, hit in broken.items() if hit[rows[0]].any())
    dimension = vectors[kind].dimensions.names[int(np.argmax(broken[kind][rows[0]]))]
    return len(rows), f"frame {rows[0]}, {kind} {dimension}"


def unused_note(features: Mapping[str, Mapping[str, Any]], state: Vector, action: Vector) -> str | None:
    """Return what to say of columns that could be a part of the state or the action and are not; None without any."""
    taken = {column.name for vector in (state, action) for column in vector.columns}
    pairs: tuple[tuple[Kind, Vector], ...] = (("state", state), ("action", action))
    left: list[str] = []
    flags: list[str] = []
    for kind, vector in pairs:
        found = [name for name in _candidates(kind, features) if name not in taken]
        if found:
            left += found
            flags.append(_flag(kind, [*(column.name for column in vector.columns), *found]))
    if not left:
        return None
    return f"columns of numbers that are not used: {', '.join(left)}; to join them: {' '.join(flags)}"


def _resolve(kind: Kind, name: str, features: Mapping[str, Mapping[str, Any]], info_path: Path) -> str:
    """Return the column that a name means: itself, or the one with or without LeRobot's prefix."""
    others = (_PREFIX + name, name.removeprefix(_PREFIX))
    found = next((given for given in (name, *others) if given in features), None)
    if found is None or not _holds_numbers(features[found]):
        raise DataError(
            f"--dataset.{kind} names {'no column' if found is None else 'a column without numbers'}: {info_path}",
            wanted=f"columns of numbers: {', '.join(key for key, f in features.items() if _holds_numbers(f))}",
            found=name if found is None else f"{found}, dtype {shown(features[found].get('dtype'))}",
            remedy=f"correct --dataset.{kind}",
        )
    return found


def _holds_numbers(feature: Mapping[str, Any]) -> bool:
    return not is_camera(feature) and re.match(r"float|u?int|bool", str(feature.get("dtype"))) is not None


def _size(name: str, feature: Mapping[str, Any], info_path: Path) -> int:
    shape = feature.get("shape")
    sides = [] if shape is None else shape if isinstance(shape, list) else [shape]
    whole = all(type(side) is int and 1 <= side <= LARGEST_INT for side in sides)
    if not whole or math.prod(sides) > LARGEST_VECTOR:
        raise wrong_content(
            f"the shape of {name} cannot be: {info_path}",
            wanted=f"[n], up to {LARGEST_VECTOR:,} numbers",
            found=str(sides)[:100] if whole else shown(shape),
            remedy="correct its shape in meta/info.json",
        )
    return math.prod(sides)


def _dimensions(key: str, columns: Sequence[Column], features: Mapping[str, Mapping[str, Any]]) -> Dimensions:
    """Return the names of all dimensions; where several columns are joined, those of each begin with the column's."""
    if len(columns) == 1:
        return name_dimensions(columns[0].name, features[columns[0].name].get("names"), columns[0].size)
    labels = [column.name.removeprefix(_PREFIX) for column in columns]
    if len(set(labels)) < len(labels):
        labels = [column.name for column in columns]
    found: list[tuple[str, str]] = []
    known, notes = True, []
    for label, column in zip(labels, columns, strict=True):
        own = name_dimensions(label, features[column.name].get("names"), column.size)
        alone = column.size == 1 and not own.known
        found += [("", label)] if alone else [("", _labelled(label, name, column.size)) for name in own.names]
        known = known and (own.known or column.size == 1)
        notes += [own.note] if own.note is not None else []
    return Dimensions(tell_apart(found), known=known, note="; ".join(notes) or None)


def _labelled(label: str, name: str, size: int) -> str:
    if label.lower() in name.lower():
        return name
    return label if size == 1 and name.lower() in label.lower() else f"{label}_{name}"


def _missing(kind: Kind, features: Mapping[str, Mapping[str, Any]], info_path: Path) -> DataError:
    wanted = KNOWN_NAMES[kind]
    candidates = _candidates(kind, features)
    renaming = (
        f"rename the column that holds the {kind} to {wanted[0]}, in meta/info.json and in the data files of every "
        "episode"
    )
    joining = f"name the columns that are the {kind}, in the robot's order, for example {_flag(kind, candidates)}"
    return DataError(
        f"the data set has no {kind} column: {info_path}",
        wanted=" or ".join(wanted),
        found=", ".join(features),
        remedy=joining if candidates else renaming,
    )


def _candidates(kind: Kind, features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the columns that may be a part of it, by name and type; of states those of LeRobot's naming before all."""
    vectors = [
        name
        for name, feature in features.items()
        if str(feature.get("dtype")).startswith("float")
        and name not in INDEX_COLUMNS
        and len(shape if isinstance(shape := feature.get("shape"), list) else []) <= 1
    ]
    if kind == "action":
        return [name for name in vectors if _ACTION.search(name.lower())]
    rest = [name for name in vectors if not _ACTION.search(name.lower()) and not _NO_STATE.search(name.lower())]
    return [name for name in rest if name.startswith(_PREFIX)] or rest


def _flag(kind: Kind, names: Sequence[str]) -> str:
    plain = all(re.fullmatch(r"[\w./-]+", name) for name in names)
    value = f"[{', '.join(names)}]" if plain else json.dumps(list(names), ensure_ascii=False)
    return f"--dataset.{kind}='{value}'"


def require_memory(root: Path, frames: int, numbers: int) -> None:
    """Refuse a data set whose states and actions, `numbers` a frame, are larger than the memory of this machine.

    Parquet may store a thousand million equal numbers in a few bytes, so the files need not be large.
    """
    wanted, there = 4 * frames * numbers, machine_memory()
    if wanted > there:
        raise DataError(
            f"the states and actions of the data set do not fit into the memory of this machine: {root}",
            wanted=f"at most {there / 1e9:.0f} GB",
            found=f"{frames:,} frames of {numbers:,} numbers: {wanted / 1e9:,.0f} GB",
            remedy="choose fewer episodes (--dataset.episodes), or correct the numbers in meta/info.json",
        )
