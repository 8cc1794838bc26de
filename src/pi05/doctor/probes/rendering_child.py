"""Draw one frame: `python -m pi05.doctor.probes.rendering_child tabletop|mujoco`. One colour is no picture."""

from __future__ import annotations

import sys
from typing import Any

from pi05.doctor.child import begin, give

BALL = """
<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size="0.3" rgba="1 0 0 1"/>
<camera name="eye" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/></worldbody></mujoco>
"""


def draw_tabletop() -> Any:
    """Return the pictures of the embedded simulator's first frame."""
    from pi05.sim.config import EnvironmentChoice
    from pi05.sim.environments import environment_maker

    environment = environment_maker(EnvironmentChoice())()
    environment.reset(0)
    return environment.observe()


def draw_mujoco() -> Any:
    """Return a picture of a ball."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(BALL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 64, 64) as renderer:
        renderer.update_scene(data, camera="eye")
        return renderer.render()


def shows_something(pictures: Any) -> bool:
    """Tell whether every picture in an observation (or the picture itself) has more than one colour."""
    arrays = list(pictures.values()) if isinstance(pictures, dict) else [pictures]
    drawn = [array for array in arrays if getattr(array, "ndim", 0) == 3]
    return bool(drawn) and all(array.min() < array.max() for array in drawn)


if __name__ == "__main__":
    begin("drawing")
    give({"drawn": shows_something({"tabletop": draw_tabletop, "mujoco": draw_mujoco}[sys.argv[1]]())})
