"""openpi's ALOHA policies and their `adapt_to_pi`: refused, because their numbers are not the robot's.

With `adapt_to_pi`, the default of openpi's ALOHA configurations, openpi turns the sign of six joints, and maps the
gripper's opening to an angle, before the state is normalised and after the actions are unnormalised. No file of the
folder tells it; the statistics are of the mapped numbers. pi05 has no such map: without it a policy would answer joints
of the wrong sign. So a policy with ALOHA's dimensions is read only when the caller says that it has no map.
Facts: openpi `policies/aloha_policy.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError

DIMENSIONS = 14
"""Two arms with six joints and a gripper, in state and actions."""


def looks_like_aloha(state_dim: int, action_dim: int) -> bool:
    """Say whether state and actions have ALOHA's dimensions; other robots with two arms of seven numbers do, too."""
    return state_dim == action_dim == DIMENSIONS


def require_own_units(state: DimStats, action: DimStats, told: bool | None, sidecar: Mapping[str, Any] | None) -> None:
    """Raise CheckpointError for a folder of openpi whose numbers may be those of `adapt_to_pi`.

    What `pi05 export` wrote (`sidecar`) is in the robot's own numbers.
    """
    if told is False or (told is None and (_exported(sidecar) or not looks_like_aloha(state.dim, action.dim))):
        return
    raise CheckpointError(
        "pi05 has no joint flip and gripper map, which openpi's ALOHA policies need (adapt_to_pi)"
        if told
        else "the policy has ALOHA's 14 numbers, and openpi's folders do not tell whether its joints are flipped and "
        "its grippers mapped (adapt_to_pi); without that the robot would move wrongly",
        wanted="a policy trained on the robot's own joints and grippers: adapt_to_pi=False in openpi's configuration",
        found="adapt_to_pi=True" if told else f"{state.dim} state numbers, {action.dim} action numbers, nothing told",
        remedy="run it with openpi's own server"
        if told
        else "if the training configuration had adapt_to_pi=False or this is another robot, say so: "
        "Policy.load(…, adapt_to_pi=False), --adapt_to_pi=false of pi05 eval and export; else run it with openpi's own "
        "server",
    )


def require_statistics_of_own_units(state: DimStats, action: DimStats, sidecar: Mapping[str, Any] | None) -> None:
    """Raise CheckpointError for statistics that a run would use for data in the robot's own numbers."""
    if not _exported(sidecar) and looks_like_aloha(state.dim, action.dim):
        raise CheckpointError(
            "the base's statistics have ALOHA's 14 numbers, and openpi computes those after its joint flip and gripper "
            "map (adapt_to_pi), which your data have not been through",
            wanted="statistics of the robot's own joints and grippers",
            found=f"{state.dim} state numbers, {action.dim} action numbers in a folder of openpi",
            remedy="use --stats recompute",
        )


def _exported(sidecar: Mapping[str, Any] | None) -> bool:
    """Say whether `pi05 export` wrote the folder; a sidecar by hand may hold sizes only."""
    return sidecar is not None and "layout" in sidecar
