"""What an instruction of LIBERO asks an expert to do: which thing shall come where.

Only instructions that a hand fulfils by taking one thing and putting it down can be carried out: one goal, `In` or `On`,
about a thing that is free to move. Drawers, knobs, pushing, and goals of several parts are left out; whoever asks for
them is told so by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

NEEDS_MORE = ("_top_region", "_middle_region", "_bottom_region")
"""Ends of the names of places that are not free: the inside of closed drawers, and the slot of the wine rack."""


@dataclass(frozen=True)
class Placing:
    """One thing, and the thing or marked place that it shall come to, by LIBERO's names."""

    thing: str
    target: str
    holder: str
    """The thing that the target is, or belongs to."""


def placing_of(goals: list[list[str]], movable: set[str], fixed: set[str]) -> Placing | None:
    """Return what the goals of a BDDL file ask for, or None where it is more than to put one thing somewhere."""
    if len(goals) != 1 or len(goals[0]) != 3:
        return None
    predicate, thing, target = goals[0]
    if predicate.lower() not in ("in", "on") or thing not in movable:
        return None
    if predicate.lower() == "on" and target.endswith(NEEDS_MORE) or target.startswith(("main_table", "floor")):
        return None
    holders = [name for name in movable | fixed if target == name or target.startswith(f"{name}_")]
    if not holders or (predicate.lower() == "in" and target.endswith(NEEDS_MORE)):
        return None
    return Placing(thing, target, max(holders, key=len))


def target_place(simulator: Any, placing: Placing) -> Float[np.ndarray, " 2"]:
    """Return where in the plane (m) the middle of the thing shall come."""
    domain = simulator.env
    if placing.target in domain.object_sites_dict:
        return np.array(simulator.sim.data.get_site_xpos(placing.target)[:2])
    return np.array(simulator.sim.data.body_xpos[domain.obj_body_id[placing.target]][:2])
