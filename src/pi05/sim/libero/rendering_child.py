"""Draw one frame with MuJoCo: `python -m pi05.sim.libero.rendering_child`. One colour is no picture."""

from __future__ import annotations

from typing import Any

from pi05.child import begin, give

BALL = """
<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size="0.3" rgba="1 0 0 1"/>
<camera name="eye" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/></worldbody></mujoco>
"""


def draw() -> Any:
    """Return a picture of a ball."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(BALL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 64, 64) as renderer:
        renderer.update_scene(data, camera="eye")
        return renderer.render()


if __name__ == "__main__":
    begin("drawing")
    picture = draw()
    give({"drawn": bool(picture.min() < picture.max())})
