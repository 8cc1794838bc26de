"""What a processor insists on, and the message when it does not get it.

Holds the checks of settings and observations that `processor.py` calls; leaves out what is done with the values, and
what a value means (`robot/guard.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pi05.data.cameras import CameraSlots
from pi05.data.prompt import PROMPT_FORMATS
from pi05.data.transforms import NORMALIZATION_MODES
from pi05.errors import DataError
from pi05.types import IMAGE_PREFIX, STATE, TASK


def require_settings(
    modes: Mapping[str, str], prompt_format: str, robot_action_dim: int, action_dim: int, mask: Sequence[bool] | None
) -> None:
    """Raise DataError for settings of a processor that cannot be."""
    known = all(mode in NORMALIZATION_MODES for mode in modes.values())
    if set(modes) - {"VISUAL"} != {"STATE", "ACTION"} or not known:
        raise DataError(
            "the normalisation mapping is impossible",
            wanted=f"STATE and ACTION, each one of {', '.join(NORMALIZATION_MODES)}",
            found=str(dict(modes)),
            remedy="correct --policy.normalization_mapping",
        )
    if modes.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise DataError(
            "images are always scaled to [-1, 1], never normalised by statistics",
            wanted="VISUAL: IDENTITY",
            found=modes["VISUAL"],
            remedy="set it so in --policy.normalization_mapping, or leave it out",
        )
    if prompt_format not in PROMPT_FORMATS:
        raise DataError(
            "the prompt format is unknown",
            wanted=" or ".join(PROMPT_FORMATS),
            found=repr(prompt_format),
            remedy="choose one with --prompt_format",
        )
    if robot_action_dim > action_dim:
        raise DataError(
            "the robot has more action dimensions than the network",
            wanted=f"at most {action_dim}",
            found=str(robot_action_dim),
            remedy="record fewer dimensions (drop constant ones), or start from a base with a larger action_dim",
        )
    if mask is not None and len(mask) != robot_action_dim:
        raise ValueError(f"relative_mask has {len(mask)} entries for {robot_action_dim} action dimensions")


def require_choice(what: str, found: object, known: Sequence[str]) -> None:
    """Raise DataError for a way of preprocessing that this version does not have."""
    if found not in known:
        raise DataError(
            f"the {what} is not one that this version knows",
            wanted=" or ".join(known),
            found=repr(found),
            remedy="use the checkpoint folder as it was written, with the pi05 version that wrote it or a later one",
        )


def require_known_cameras(observation: Mapping[str, Any], slots: CameraSlots) -> None:
    """Raise DataError for a camera that is neither used nor dropped on purpose."""
    unknown = sorted(
        key
        for key in observation
        if key.startswith(IMAGE_PREFIX) and key not in slots.keys and key not in slots.dropped
    )
    if unknown:
        raise DataError(
            f"camera {unknown[0]} is unknown to this policy",
            wanted=f"only {', '.join(slots.keys)}",
            found=", ".join(unknown),
            remedy="send only the cameras that the policy was trained with, under their names",
        )


def require_task(observation: Mapping[str, Any]) -> str:
    """Return the instruction. Raises DataError when there is none."""
    task = observation.get(TASK)
    if not isinstance(task, str | bytes):
        raise DataError(
            "the observation has no task",
            wanted=f"the instruction as text under {TASK!r}",
            found=f"a {type(task).__name__}" if TASK in observation else ", ".join(map(str, observation)),
            remedy="add 'task' to the observation, in the words that the data set uses",
        )
    return task.decode() if isinstance(task, bytes) else str(task)


def require_state(
    observation: Mapping[str, Any], dim: int, names: Sequence[str], columns: str = ""
) -> Float[np.ndarray, " S"]:
    """Return the raw state: exactly `dim` finite numbers; a batch of one is taken out of its batch.

    `columns` says which columns would do as well, for the message where there is none.
    Raises DataError for anything else: another shape would change the prompt, NaN and infinity are no measurement.
    """
    if STATE not in observation:
        raise DataError(
            "the observation has no state",
            wanted=f"{STATE} with {dim} numbers" + (f", or the columns {columns}" if columns else ""),
            found=", ".join(map(str, observation)) or "an empty observation",
            remedy=f"send the robot's state as {STATE}" + (", or its columns under their names" if columns else ""),
        )
    try:
        sent = np.asarray(observation[STATE])
        if sent.dtype.kind in "USMm":  # NumPy would read numbers out of texts and dates
            raise TypeError(f"{STATE} holds {sent.dtype}")
        with np.errstate(over="ignore"):  # infinite then, which is refused below
            state = sent.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            "the state does not consist of numbers",
            wanted=f"{STATE} with {dim} numbers",
            found=f"{error}",
            remedy=f"send {STATE} as a vector of numbers",
        ) from error
    if state.shape == (1, dim):
        state = state[0]
    require_shape("state", state, (dim,), names, exact=True)
    broken = np.flatnonzero(~np.isfinite(state))
    if len(broken):
        place = int(broken[0])
        name = f" ({names[place]})" if len(names) == dim else ""
        raise DataError(
            "the state holds a value that is not a number",
            wanted="finite numbers",
            found=f"{state[place]} in dimension {place}{name}",
            remedy="find out what the robot's driver reports there; send no observation before it measures",
        )
    return state


def require_finite_actions(actions: Float[np.ndarray, "A n"], names: Sequence[str]) -> None:
    """Raise DataError for an answer that no robot may be given."""
    broken = np.argwhere(~np.isfinite(actions))
    if len(broken):
        step, place = map(int, broken[0])
        name = f" ({names[place]})" if len(names) == actions.shape[1] else ""
        raise DataError(
            "the policy answers with actions that are not finite",
            wanted="finite numbers",
            found=f"{actions[step, place]} in step {step}, dimension {place}{name}",
            remedy="use another checkpoint: weights or statistics of this one are broken",
        )


def require_shape(
    kind: str, values: np.ndarray, wanted: tuple[int, ...], names: Sequence[str], *, exact: bool = False
) -> None:
    """Raise DataError unless the last dimensions of `values` are `wanted`; with `exact` there are no others."""
    if (
        (exact and values.shape != wanted)
        or values.ndim < len(wanted)
        or values.shape[values.ndim - len(wanted) :] != wanted
    ):
        raise DataError(
            f"the {kind} has the wrong shape",
            wanted=f"{wanted}" + (f": {', '.join(names)}" if names else ""),
            found=f"{values.shape}",
            remedy=f"send the {kind} with the dimensions, in the order and the units of the training data",
        )


def require_same(what: str, trained: object, found: object) -> None:
    """Raise DataError when what is found is not what the checkpoint was trained with."""
    if trained != found:
        raise DataError(
            f"the {what} is not the one that the checkpoint was trained with",
            wanted=str(trained),
            found=str(found),
            remedy="use the checkpoint folder as it was written, with the pi05 version that wrote it or a later one",
        )
