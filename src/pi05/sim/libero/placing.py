"""What an instruction of LIBERO asks an expert to do: which thing shall come where.

Only instructions that a hand fulfils by taking one thing and putting it down can be carried out: one goal, `In` or
`On`, about a thing that is free to move. Drawers, knobs, pushing, and goals of several parts are left out; whoever asks
for them is told so by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

CLOSED = ("_top_region", "_middle_region", "_bottom_region")
"""Ends of the names of places inside closed drawers, or in the slot of the wine rack."""


@dataclass(frozen=True)
class Placing:
    """One thing, and the thing or marked place that it shall come to, by LIBERO's names."""

    thing: str
    target: str


def placing_of(goal: Sequence[Sequence[str]], things: Collection[str]) -> Placing | None:
    """Return what a task's goal asks for, or None where it is more than to take one thing and put it somewhere.

    `goal` are relations as in a BDDL file, `things` the names of everything in the scene but table and floor.
    """
    if len(goal) != 1 or len(goal[0]) != 3:
        return None
    predicate, thing, target = goal[0]
    on_a_thing = any(target == name or target.startswith(f"{name}_") for name in things)  # not on a part of the table
    if predicate.lower() not in ("in", "on") or not on_a_thing or target.endswith(CLOSED):
        return None
    return Placing(thing, target)


def target_place(simulator: Any, placing: Placing) -> Float[np.ndarray, " 2"]:
    """Return where in the plane (m) the middle of the thing shall come."""
    domain = simulator.env
    if placing.target in domain.object_sites_dict:
        return np.array(simulator.sim.data.get_site_xpos(placing.target)[:2])
    return np.array(simulator.sim.data.body_xpos[domain.obj_body_id[placing.target]][:2])
