"""Do the simulators draw?"""

from __future__ import annotations

from collections.abc import Iterator

from pi05.doctor.facts import Machine, Rendering
from pi05.doctor.remedies import install
from pi05.finding import Finding, error, ok
from pi05.sim.libero.rendering import MESA, WAYS


def judge_rendering(facts: Rendering, machine: Machine) -> Iterator[Finding]:
    """Yield what is to be said about drawing without a screen."""
    if facts.tabletop is not None:
        yield error(
            "rendering.tabletop",
            f"the table-top simulator draws nothing: {facts.tabletop}",
            "can neither collect nor evaluate there, and the demonstration fails",
            install(machine, "numpy>=2.0", "pillow>=10", again=True),
        )
    else:
        yield ok("rendering.tabletop_ok", "the table-top simulator draws")
    if facts.mujoco is None:
        return
    if facts.drawn_by is None:
        told = "; ".join(f"{way}: {fault}" for way, fault in facts.faults.items())
        apt = machine.distribution in ("ubuntu", "debian")
        yield error(
            "rendering.mujoco",
            f"MuJoCo {facts.mujoco} draws nothing ({told})",
            "cannot be evaluated in LIBERO",
            "unset MUJOCO_GL"
            if facts.chosen not in (None, *WAYS)
            else f"sudo apt-get install {MESA}"
            if apt
            else "install Mesa's libEGL and libOSMesa with the package manager of this system",
        )
    elif facts.chosen is None:
        how = f"export MUJOCO_GL={facts.drawn_by} chooses it for every program"
        yield ok("rendering.mujoco_way", f"MuJoCo {facts.mujoco} draws with {facts.drawn_by}; {how}")
    else:
        yield ok("rendering.mujoco_ok", f"MuJoCo {facts.mujoco} draws with MUJOCO_GL={facts.chosen}")
