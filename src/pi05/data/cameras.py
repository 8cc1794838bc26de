"""Which camera of a robot goes to which of the model's three camera slots.

The slots are openpi's, in its order: scene (`base_0_rgb`), left wrist, right wrist. Every camera is either placed or
dropped by name; none is ever ignored. Names are read as words: front, top, scene, base … go to the scene slot, wrist,
gripper, hand … to the wrist slots: by their side, and a single one that tells none to the left slot. Two that tell none
are for the user to place. Leaves out the pixels (`transforms.py`).
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
    *("前方", "前视", "正面", "俯视", "顶部", "头部", "全局", "场景"),
}
_WRIST = re.compile(r"wrist|gripper|^(in|eye)?hand(eye)?$|腕|夹爪|[左右]手")
_SIDES = {"left": "left", "l": "left", "左": "left", "right": "right", "r": "right", "右": "right"}
_GLUED = re.compile(r"^(left|right|[lr](?=wrist|gripper|hand))?(.*?)(left|right)?$")
"""A word with a side before or after it: rightwrist, lgripper, handleft."""
_CARRIERS = {"arm", "cam", "camera", "eye", ""}
"""What a side is glued to besides a wrist's words; of others (bright, leftover) it is no part."""


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
    left: dict[str, str] = {}
    for key in (key for key in rest if sides[key] in SLOTS):
        _place_or_leave(placed, left, str(sides[key]), key)
    sideless = [key for key in rest if sides[key] == "wrist"]
    if len(sideless) == 1:
        _place_or_leave(placed, left, "right_wrist" if "left_wrist" in placed else "left_wrist", sideless[0])
    elif sideless:
        left |= dict.fromkeys(sideless, "its name does not tell which wrist")
    left |= {key: "its name tells no slot" for key in rest if sides[key] is None}
    if left:
        raise _unplaced({key: left[key] for key in rest if key in left}, placed, sides, explicit)
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
    words = _words(key)
    if "depth" in words:
        return None  # not a colour picture, whatever it shows
    if any(_WRIST.search(word) for word in words):
        side = _side(words)
        return "wrist" if side is None else f"{side}_wrist"
    # "image" alone is LIBERO's scene camera; beside another word (side_image) it says nothing
    return "scene" if words == ["image"] or any(word in _SCENE_WORDS for word in words) else None


def _words(key: str) -> list[str]:
    # LeRobot's sets of one camera call it observation.image, without the s
    name = key.removeprefix(IMAGE_PREFIX).removeprefix("observation.")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    parts = [_GLUED.fullmatch(word) for word in re.findall("[a-z]+|[\u4e00-\u9fff]+", name)]
    words: list[str] = []
    for before, word, after in (part.groups("") for part in parts if part is not None):
        apart = word in _CARRIERS or _WRIST.search(word)
        words += [piece for piece in (before, word, after) if piece] if apart else [before + word + after]
    return words


def _side(words: Sequence[str]) -> str | None:
    """Return left or right where the words tell one side and not both."""
    sides = {_SIDES[word] for word in words if word in _SIDES}
    sides |= {side for sign, side in _SIDES.items() for word in words if sign in "左右" and sign in word}
    return sides.pop() if len(sides) == 1 else None


def _is_depth(key: str) -> bool:
    return "depth" in _words(key)


def _place(placed: dict[str, str], slot: str, key: str) -> None:
    if slot in placed:
        raise DataError(
            f"camera {key} has no slot: the slot {slot} is already taken by {placed[slot]}",
            wanted="one camera for each slot",
            found=f"--rename_map places {placed[slot]} and {key} in {slot}",
            remedy="correct --rename_map",
        )
    placed[slot] = key


def _place_or_leave(placed: dict[str, str], left: dict[str, str], slot: str, key: str) -> None:
    if slot in placed:
        left[key] = f"the slot {slot} is already taken by {placed[slot]}"
    else:
        placed[slot] = key


def _unplaced(
    left: dict[str, str], placed: dict[str, str], sides: dict[str, str | None], explicit: dict[str, str]
) -> DataError:
    """Return the error for all cameras without a slot, with flags that place or drop all of them at once.

    The flags repeat what the user's own say. A wrist's slot is offered only where the camera may sit on a wrist, and
    then as a question.
    """
    first = next(iter(left))
    nameless = [key for key in left if sides[key] is None and not _is_depth(key)]
    free = [slot for slot in SLOTS[1:] if slot not in placed]
    sideless = _wrists([key for key in left if sides[key] == "wrist"], free)
    scene = [key for key in nameless if _side(_words(key)) is None] or nameless
    chosen = {**({} if "scene" in placed else dict.fromkeys(scene[:1], "scene")), **sideless}
    choices = [_flags(explicit, chosen, left)]
    if len(sideless) > 1:
        crossed = dict(zip(sideless, reversed(sideless.values()), strict=True))
        choices.append(f"if they sit the other way round: {_flags(explicit, {**chosen, **crossed}, left)}")
    if len(chosen) > len(sideless):
        choices.append(_flags(explicit, sideless, left))
    rivals = [key for key in left if sides[key] == "scene"]
    if rivals and "scene" in placed:
        swap = {rivals[0]: "scene", placed["scene"]: DROP}
        choices.append(f"to see through {rivals[0]} instead: {_flags(explicit, swap, left)}")
    wrists = _wrists(nameless, [slot for slot in free if slot not in sideless.values()])
    if wrists:
        choices.append(f"if it sits on a wrist: {_flags(explicit, {**wrists, **sideless}, left)}")
    return DataError(
        f"camera {first} has no slot: {left[first]}"
        + "".join(f"; nor has {key}: {reason}" for key, reason in left.items() if key != first),
        wanted=f"each camera in one of {', '.join(SLOTS)}, or dropped",
        found="; ".join(f"{slot} ← {camera}" for slot, camera in placed.items()) or "no slot filled yet",
        remedy="; or ".join(choices),
    )


def _wrists(keys: Sequence[str], free: Sequence[str]) -> dict[str, str]:
    """Return a free wrist slot for each camera while there are any: that of its side, or the next for one without."""
    found: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: _side(_words(key)) is None):
        side = _side(_words(key))
        for slot in free:
            if slot not in found.values() and (side is None or slot.startswith(side)):
                found[key] = slot
                break
    return {key: found[key] for key in keys if key in found}


def _flags(explicit: dict[str, str], chosen: dict[str, str], left: Iterable[str]) -> str:
    """Return the flags that do as `explicit` and `chosen` say and drop the others that are left."""
    wishes = {**explicit, **dict.fromkeys(left, DROP), **chosen}
    renamed = {key: slot for key, slot in wishes.items() if slot != DROP}
    dropped = [key for key, slot in wishes.items() if slot == DROP]
    flags = [f"--rename_map '{_json(renamed)}'"] if renamed else []
    return " ".join([*flags, *([f"--drop_cameras '{_json(dropped)}'"] if dropped else [])])


def _rename_flag(key: str, slot: str) -> str:
    return f"--rename_map '{_json({key: slot})}'"


def _json(value: object) -> str:
    """Write a flag's value so that it can be read and typed: names in their own script."""
    return json.dumps(value, ensure_ascii=False)


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
