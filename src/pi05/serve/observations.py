"""A robot's observation under the names of its own program, as one under the names of the policy.

Names are looked up, never guessed: the policy's own (with or without `observation.images.`), its slots (scene,
left_wrist, right_wrist and openpi's base_0_rgb …), and the conventions of LIBERO, DROID, ALOHA and vla-eval. A picture
under any other name is refused, because a camera in the wrong slot moves an arm wrongly. Values are not looked at here,
but that ALOHA's pictures have their channels first; `data/robot/guard.py` checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pi05.data.cameras import OPENPI_SLOTS, SLOTS
from pi05.errors import Refused
from pi05.serve.dialects import LONGEST_NAME, Family
from pi05.serve.protocol import Contract, short_name

STATE, TASK, IMAGES = "observation.state", "task", "observation.images."
CONVENTIONS: Mapping[str, str] = {
    "observation/image": "scene",  # openpi's LIBERO
    "observation/wrist_image": "left_wrist",
    "observation/exterior_image_1_left": "scene",  # DROID
    "observation/wrist_image_left": "left_wrist",
    "cam_high": "scene",  # ALOHA
    "cam_left_wrist": "left_wrist",
    "cam_right_wrist": "right_wrist",
    "agentview": "scene",  # vla-eval's benchmarks
    "primary": "scene",
    "rgb_static": "scene",
    "wrist": "left_wrist",
    "rgb_gripper": "left_wrist",
    **{name: slot for slot, name in OPENPI_SLOTS.items()},
    **{slot: slot for slot in SLOTS},
}
"""Names of pictures in other programs → the slot that they mean."""
STATES = (STATE, "observation/state", "state", "states")
TASKS = (TASK, "prompt", "task_description", "lang")
LONGEST_TASK = 10_000
"""Characters of an instruction; it is cut into tokens by the thread that computes for everybody, a megabyte in 3 s."""
DROID_STATE = ("observation/joint_position", "observation/gripper_position")
IGNORED = ("action", "timestamp", "frame_index", "episode_index", "index", "task_index")
"""What a frame of a data set holds besides an observation."""
OPTIONS = ("noise", "image_masks", "camera_order", "action_horizon", "action_dim", "output_format")
"""SGLang's wishes, which would change the answer and are not fulfilled here."""


def translate(sent: Mapping[str, Any], family: Family, contract: Contract) -> dict[str, Any]:
    """Return an observation under the policy's names. Raises Refused for a picture or a wish that is not known."""
    _require_names(sent)  # an example inside a message has not been looked at yet
    unmet = [name for name in OPTIONS if sent.get(name) is not None]
    if unmet:
        raise _refused(f"the option {unmet[0]} is not offered", None, unmet[0], f"leave {unmet[0]} out", "unsupported")
    found: dict[str, Any] = {}
    pictures = dict(_examples_pictures(sent, contract)) if family == "starvla" else {}
    nested = sent.get("images")
    if nested is not None:
        if not isinstance(nested, Mapping):
            raise _refused(
                "images is no map of pictures", "camera → picture", type(nested).__name__, "name each camera"
            )
        _require_names(nested)
        pictures |= {name: _channels_last(name, value) for name, value in nested.items()}
    own = {name for name, _ in contract.state.columns}
    known = {*STATES, *TASKS, *DROID_STATE, *IGNORED, "images", "image" if family == "starvla" else ""} | own
    rest = {name: value for name, value in sent.items() if name not in known}
    pictures |= {name: value for name, value in rest.items() if _is_picture(name, value, contract)}
    for name, value in pictures.items():
        camera = _camera(name, contract)
        if camera in found:
            raise _refused(f"two pictures are for the camera {camera}", "one", name, "send one picture for each camera")
        found[camera] = value
    return found | _state(sent, own) | _task(sent)


def _require_names(sent: Mapping[Any, Any]) -> None:
    """Raise Refused for keys that are no texts, or so long that an answer which repeats them would be large."""
    for name in sent:
        if not isinstance(name, str):
            raise _refused("a key of the observation is no text", "text", "bytes", "name everything by a text")
        if len(name) > LONGEST_NAME:
            found = f"{len(name):,} characters"
            raise _refused("a key of the observation is too long", f"at most {LONGEST_NAME}", found, "shorten it")


def _is_picture(name: str, value: Any, contract: Contract) -> bool:
    """Tell whether a value is meant as a picture: by its name, or because it has the dimensions of one."""
    if name.startswith((IMAGES, "observation/image", "observation/wrist_image", "observation/exterior_image")):
        return True
    named = name in CONVENTIONS or name in {short_name(one.name) for one in contract.cameras}
    named = named or name in {one.name for one in contract.cameras} or name in contract.dropped_cameras
    return named or (isinstance(value, np.ndarray) and value.ndim >= 3)


def _camera(name: str, contract: Contract) -> str:
    """Return the policy's name of a camera."""
    by_name = {one.name: one.name for one in contract.cameras} | {one: one for one in contract.dropped_cameras}
    by_name |= {short_name(one): one for one in by_name}
    if name in by_name or short_name(name) in by_name:
        return by_name.get(name) or by_name[short_name(name)]
    slot = CONVENTIONS.get(name) or CONVENTIONS.get(short_name(name))
    by_slot = {one.slot: one.name for one in contract.cameras}
    if slot in by_slot:
        return by_slot[slot]
    cameras = ", ".join(f"{one.name} ({one.slot})" for one in contract.cameras)
    why = "is unknown to this policy" if slot is None else f"is for the slot {slot}, which this policy leaves empty"
    raise _refused(
        f"the picture {name!r} {why}",
        cameras,
        name,
        "send the cameras that the policy was trained with, under their names or slots",
    )


def _examples_pictures(sent: Mapping[str, Any], contract: Contract) -> list[tuple[str, Any]]:
    """Return StarVLA's list of pictures with the cameras that they are, in slot order."""
    pictures = sent.get("image")
    if not isinstance(pictures, list) or len(pictures) != len(contract.cameras):
        raise _refused(
            "an example does not hold one picture for each camera",
            f"{len(contract.cameras)}, in the order {', '.join(one.name for one in contract.cameras)}",
            str(len(pictures)) if isinstance(pictures, list) else type(pictures).__name__,
            "send image as a list in that order",
        )
    return [(one.name, picture) for one, picture in zip(contract.cameras, pictures, strict=True)]


def _channels_last(name: str, value: Any) -> Any:
    """Return a picture of ALOHA, whose cameras are called cam_… and have their channels first, with them last."""
    aloha = name.startswith("cam_") and isinstance(value, np.ndarray) and value.ndim == 3
    return np.moveaxis(value, 0, -1) if aloha and value.shape[0] == 3 and value.shape[-1] != 3 else value


def _state(sent: Mapping[str, Any], columns: set[str]) -> dict[str, Any]:
    """Return the state under the policy's name: as one, in DROID's two parts, or in the policy's own columns."""
    parts = {name: sent[name] for name in columns if name in sent}
    given = [name for name in STATES if sent.get(name) is not None and name not in columns]
    if len(given) > 1:
        raise _refused(
            "the observation holds several states", "one", ", ".join(given), f"send {STATE}, and no other one"
        )
    if given:
        return parts | {STATE: sent[given[0]]}
    if not parts and all(name in sent for name in DROID_STATE):
        try:
            joined = np.concatenate([np.asarray(sent[name], np.float32).reshape(-1) for name in DROID_STATE])
        except (TypeError, ValueError) as error:
            raise _refused("the state is no vector", "numbers", str(error)[:80], "send numbers") from error
        return {STATE: joined}
    return parts


def _task(sent: Mapping[str, Any]) -> dict[str, Any]:
    given = {str(sent[name]) for name in TASKS if isinstance(sent.get(name), str)}
    if len(given) > 1:
        raise _refused(
            "the observation holds several instructions", "one", "; ".join(sorted(given)), "send one of them"
        )
    if (longest := max(map(len, given), default=0)) > LONGEST_TASK:
        raise _refused(
            "the instruction is too long",
            f"at most {LONGEST_TASK:,} characters",
            f"{longest:,} characters",
            "send a sentence, in the words of the training data",
        )
    return {TASK: given.pop()} if given else {}


def _refused(problem: str, wanted: str | None, found: str, remedy: str, code: str = "observation") -> Refused:
    return Refused(problem, code=code, wanted=wanted, found=found[:200], remedy=remedy)
