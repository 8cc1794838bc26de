"""Draw one frame with the table-top simulator: `python -m pi05.doctor.probes.rendering_child`.

One colour is no picture.
"""

from __future__ import annotations

from typing import Any

from pi05.child import begin, give


def draw_tabletop() -> Any:
    """Return the pictures of the embedded simulator's first frame."""
    from pi05.sim.tabletop import Tabletop

    environment = Tabletop("demo")
    environment.reset(0)
    return environment.observe()


def shows_something(pictures: Any) -> bool:
    """Tell whether every picture in an observation (or the picture itself) has more than one colour."""
    arrays = list(pictures.values()) if isinstance(pictures, dict) else [pictures]
    drawn = [array for array in arrays if getattr(array, "ndim", 0) == 3]
    return bool(drawn) and all(array.min() < array.max() for array in drawn)


if __name__ == "__main__":
    begin("drawing")
    give({"drawn": shows_something(draw_tabletop())})
