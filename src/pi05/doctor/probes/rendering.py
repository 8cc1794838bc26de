"""A frame drawn by each simulator that is installed, in processes of their own: graphics drivers crash.

With which graphics library MuJoCo draws is decided where LIBERO needs it (`sim/libero/rendering.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import metadata

from pi05.child import ChildAnswer, ask_child
from pi05.doctor.facts import Rendering
from pi05.sim.libero.rendering import CHOSEN, SECONDS, Drawn, draw_with, fault_of, find_way

CHILD = "pi05.doctor.probes.rendering_child"


def probe_rendering(
    *,
    ask: Callable[..., ChildAnswer] = ask_child,
    environment: Mapping[str, str] = os.environ,
    mujoco_version: Callable[[], str | None] | None = None,
) -> Rendering:
    """Draw with the table-top simulator, and with MuJoCo (which LIBERO stands on) where that is installed."""
    chosen = environment.get(CHOSEN) or None
    version = (mujoco_version or _mujoco_version)()
    drawn = Drawn(None) if version is None else find_way(lambda way: draw_with(way, ask), chosen)
    return Rendering(
        tabletop=fault_of(ask(CHILD, seconds=SECONDS)),
        mujoco=version,
        drawn_by=drawn.way,
        faults=drawn.faults,
        chosen=chosen,
    )


def _mujoco_version() -> str | None:
    try:
        return metadata.version("mujoco")
    except metadata.PackageNotFoundError:
        return None
