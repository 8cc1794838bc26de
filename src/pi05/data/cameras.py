"""Which camera of a robot goes to which of the model's three camera slots.

The slots are openpi's, in its order: scene (`base_0_rgb`), left wrist, right wrist. Every camera is either placed or
dropped by name; none is ever ignored. Names are read as words: front, top, scene, base … go to the scene slot, wrist,
gripper, hand … to the wrist slots, left first. Leaves out the pixels (`transforms.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pi05.errors import DataError
from pi05.types import IMAGE_PREFIX

SLOTS = ("scene", "left_wrist", "right_wrist")
OPENPI_SLOTS = {"scene": "base_0_rgb", "left_wrist": "left_wrist_0_rgb", "right_wrist": "right_wrist_0_rgb"}
DROP = "drop"

_SCENE_WORDS = {
    *("scene", "front", "top", "base", "third", "agent", "agentview", "exterior", "external", "overhead", "high"),
    *("ego", "egoview", "head", "static"),
}
_WRIST = re.compile(r"wrist|gripper|^(in|eye)?hand(eye)?$")


@dataclass(frozen=True)
class CameraSlots:
    """Data set camera of each slot (None: the slot stays empty and masked), and the cameras dropped on purpose."""

    scene: str | None = None
    left_wrist: str | None = None
    right_wrist: str | None = None
    dropped: tuple[str, ...] = ()

    @property
    def by_slot(self) -> dict[str, str | None]:
        """Return slot → camera, for all three slots in the model's order."""
        return {slot: getattr(self, slot) for slot in SLOTS}

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the cameras in use, in slot order."""
        return tuple(key for key in self.by_slot.values() if key is not None)

    @property
    def used(self) -> tuple[str, ...]:
        """Return the filled slots, in the order of `keys`."""
        return tuple(slot for slot, key in self.by_slot.items() if key is not None)

    @property
    def wrist(self) -> list[bool]:
        """Tell for each camera of `keys` whether it sits on a wrist (augmentation does not move those images)."""
        return [slot != "scene" for slot in self.used]

    def describe(self) -> str:
        """Return a small table: camera → slot, dropped cameras, empty slots."""
        rows = [(key, slot) for slot, key in self.by_slot.items() if key is not None]
        rows += [(key, "dropped") for key in self.dropped]
        rows += [("(empty, masked)", slot) for slot, key in self.by_slot.items() if key is None]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}} → {slot}" for name, slot in rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**self.by_slot, "dropped": list(self.dropped)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CameraSlots:
        """Build from `to_dict`."""
        return cls(**{slot: values[slot] for slot in SLOTS}, dropped=tuple(values["dropped"]))


def assign_slots(
    camera_keys: Sequence[str], rename_map: dict[str, str] | None = None, drop: Sequence[str] = ()
) -> CameraSlots:
    """Place every camera in a slot, by `rename_map` (camera → slot or "drop") first, then by its name.

    Cameras may be written without `observation.images.`, slots also in openpi's and LeRobot's spelling. Raises
    DataError for a camera that cannot be placed, a slot with two candidates, a name that is not a camera.
    """
    explicit = {_camera(key, camera_keys): _slot(target) for key, target in (rename_map or {}).items()}
    explicit |= {_camera(key, camera_keys): DROP for key in drop}
    placed: dict[str, str] = {}
    for key, slot in explicit.items():
        if slot != DROP:
            _place(placed, slot, key)
    rest = [key for key in camera_keys if key not in explicit]
    sides = {key: _infer(key) for key in rest}
    for key in rest:
        if sides[key] is None:
            raise _unplaced(key, placed, "its name tells no slot")
        if sides[key] != "wrist":
            _place(placed, str(sides[key]), key)
    for key in rest:
        if sides[key] == "wrist":
            _place(placed, "left_wrist" if "left_wrist" not in placed else "right_wrist", key)
    if not placed:
        raise DataError(
            "no camera is left for the model to see",
            wanted="at least one camera in a slot",
            found=f"cameras: {', '.join(camera_keys) or 'none'}",
            remedy="keep one of them, for example "
            + _rename_flag(camera_keys[0] if camera_keys else "CAMERA", "scene"),
        )
    dropped = tuple(key for key in camera_keys if explicit.get(key) == DROP)
    return CameraSlots(**placed, dropped=dropped)


def _infer(key: str) -> str | None:
    """Return scene, left_wrist, right_wrist, wrist (side unknown) or None."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.removeprefix(IMAGE_PREFIX)).lower()
    words = [word for word in re.split(r"[^a-z]+", name) if word]
    if "depth" in words:
        return None  # not a colour picture, whatever it shows
    if any(_WRIST.search(word) for word in words):
        return next((f"{side}_wrist" for side in ("left", "right") if side in words), "wrist")
    # "image" alone is LIBERO's scene camera; beside another word (side_image) it says nothing
    return "scene" if words == ["image"] or any(word in _SCENE_WORDS for word in words) else None


def _place(placed: dict[str, str], slot: str, key: str) -> None:
    if slot in placed:
        raise _unplaced(key, placed, f"the slot {slot} is already taken by {placed[slot]}")
    placed[slot] = key


def _unplaced(key: str, placed: dict[str, str], reason: str) -> DataError:
    free = [slot for slot in SLOTS if slot not in placed]
    choices = [f"--drop_cameras '{json.dumps([key])}'"]
    if free:
        choices.insert(0, _rename_flag(key, free[0]))
    return DataError(
        f"camera {key} has no slot: {reason}",
        wanted=f"each camera in one of {', '.join(SLOTS)}, or dropped",
        found="; ".join(f"{slot} ← {camera}" for slot, camera in placed.items()) or "no slot filled yet",
        remedy=" or ".join(choices),
    )


def _rename_flag(key: str, slot: str) -> str:
    return f"--rename_map '{json.dumps({key: slot})}'"


def _camera(name: str, camera_keys: Sequence[str]) -> str:
    for candidate in (name, IMAGE_PREFIX + name):
        if candidate in camera_keys:
            return candidate
    raise DataError(
        f"{name!r} is not a camera of this data set",
        wanted=_listed(camera_keys),
        found=name,
        remedy="correct --rename_map or --drop_cameras",
    )


def _slot(target: str) -> str:
    name = target.removeprefix(IMAGE_PREFIX)
    if name == DROP or name in SLOTS:
        return name
    for slot, openpi_name in OPENPI_SLOTS.items():
        if name == openpi_name:
            return slot
    raise DataError(
        f"{target!r} is not a camera slot",
        wanted=_listed([*SLOTS, *OPENPI_SLOTS.values(), DROP]),
        found=target,
        remedy="correct --rename_map: data set camera on the left, slot on the right",
    )


def _listed(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)
