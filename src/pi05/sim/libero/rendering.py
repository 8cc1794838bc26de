"""With which graphics library MuJoCo draws without a screen: decided by drawing a frame in a process of its own.

Graphics drivers crash, print and hang, so the frame is not drawn here. `pi05 doctor` asks the same question in the same
way. Nothing here needs a package at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field

from pi05.child import ChildAnswer, ask_child
from pi05.errors import EvaluationError

CHILD = "pi05.sim.libero.rendering_child"
SECONDS = 60.0
WAYS = ("egl", "osmesa")
"""MuJoCo's graphics libraries for a machine without a screen: on the GPU or by Mesa, and by Mesa on the CPU."""
MESA = "libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libosmesa6 libglvnd0 libopengl0"
"""Debian's packages for both."""
CHOSEN, DREW = "MUJOCO_GL", "PI05_MUJOCO_DREW"
"""Environment variables: the library that MuJoCo draws with, and the one that has drawn a frame already. Processes that
are started from here inherit both, and need not draw again."""


@dataclass(frozen=True)
class Drawn:
    """Which graphics library drew a frame, and why the others did not."""

    way: str | None
    faults: dict[str, str] = field(default_factory=dict)


def find_way(draw: Callable[[str], str | None], chosen: str | None) -> Drawn:
    """Return the first library that draws: the one that MUJOCO_GL names, or else EGL, then OSMesa.

    `draw` draws a frame with a library and returns why there is none, or None.
    """
    faults: dict[str, str] = {}
    for way in (chosen,) if chosen else WAYS:
        fault = draw(way)
        if fault is None:
            return Drawn(way, faults)
        faults[way] = fault
    return Drawn(None, faults)


def fault_of(answer: ChildAnswer) -> str | None:
    """Return why a child drew no picture; None where it did."""
    if answer.hangs_at is not None:
        return f"no frame within {SECONDS:.0f} s"
    if answer.result is None:
        return answer.fault
    return None if answer.result["drawn"] else "the picture has one colour"


def draw_with(way: str, ask: Callable[..., ChildAnswer] = ask_child) -> str | None:
    """Let a child draw a frame with a graphics library; return why there is none, or None."""
    return fault_of(ask(CHILD, seconds=SECONDS, environment={CHOSEN: way}))


def choose_rendering(
    draw: Callable[[str], str | None] = draw_with, environment: MutableMapping[str, str] = os.environ
) -> str:
    """Set MUJOCO_GL to a library that draws, for this process and those that it starts, and return its name.

    Raises EvaluationError when none does. To be called before robosuite or MuJoCo is imported, which read it then.
    """
    chosen = environment.get(CHOSEN) or None
    if chosen is not None and environment.get(DREW) == chosen:
        return chosen
    drawn = find_way(draw, chosen)
    if drawn.way is None:
        raise EvaluationError(
            "MuJoCo draws nothing on this machine",
            wanted=f"a frame drawn with {f'{CHOSEN}={chosen}' if chosen else ' or '.join(WAYS)}",
            found="; ".join(f"{way}: {fault}" for way, fault in drawn.faults.items()),
            remedy=_remedy(chosen),
        )
    environment[CHOSEN] = environment[DREW] = drawn.way
    return drawn.way


def _remedy(chosen: str | None) -> str:
    install = f"on Debian and Ubuntu: sudo apt-get install {MESA}"
    return install if chosen in (None, *WAYS) else f"unset {CHOSEN}; or, {install}"
