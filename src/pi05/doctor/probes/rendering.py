"""A frame drawn by each simulator that is installed, in processes of their own: graphics drivers crash."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import metadata

from pi05.doctor.child import ChildAnswer, ask_child
from pi05.doctor.facts import Rendering

CHILD = "pi05.doctor.probes.rendering_child"
SECONDS = 60.0
WAYS = ("egl", "osmesa")
"""MuJoCo's graphics libraries for a machine without a screen: on the GPU or by Mesa, and by Mesa on the CPU."""


def probe_rendering(
    *,
    ask: Callable[..., ChildAnswer] = ask_child,
    environment: Mapping[str, str] = os.environ,
    mujoco_version: Callable[[], str | None] | None = None,
) -> Rendering:
    """Draw with the table-top simulator, and with MuJoCo (which LIBERO stands on) where that is installed.

    MuJoCo draws as MUJOCO_GL says; without it egl is tried, then osmesa.
    """
    chosen = environment.get("MUJOCO_GL") or None
    version = (mujoco_version or _mujoco_version)()
    faults: dict[str, str] = {}
    drawn_by = None
    for way in () if version is None else (chosen,) if chosen else WAYS:
        fault = _fault(ask(CHILD, "mujoco", seconds=SECONDS, environment={"MUJOCO_GL": way}))
        if fault is None:
            drawn_by = way
            break
        faults[way] = fault
    return Rendering(
        tabletop=_fault(ask(CHILD, "tabletop", seconds=SECONDS)),
        mujoco=version,
        drawn_by=drawn_by,
        faults=faults,
        chosen=chosen,
    )


def _fault(answer: ChildAnswer) -> str | None:
    if answer.hangs_at is not None:
        return f"no frame within {SECONDS:.0f} s"
    if answer.result is None:
        return answer.fault
    return None if answer.result["drawn"] else "the picture has one colour"


def _mujoco_version() -> str | None:
    try:
        return metadata.version("mujoco")
    except metadata.PackageNotFoundError:
        return None
