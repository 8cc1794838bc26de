"""Which simulator is asked for a frame, and how its answer is taken."""

from __future__ import annotations

from pi05.child import ChildAnswer
from pi05.doctor.facts import Rendering
from pi05.doctor.probes.rendering import probe_rendering

DRAWN, BLANK = ChildAnswer({"drawn": True}), ChildAnswer({"drawn": False})


class Child:
    """Answers by simulator and graphics library."""

    def __init__(self, **answers: ChildAnswer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, module: str, *, seconds: float, environment: dict[str, str] | None = None) -> ChildAnswer:
        way = (environment or {}).get("MUJOCO_GL", "tabletop")
        self.asked.append(way)
        return self.answers.get(way, DRAWN)


def test_without_mujoco_the_table_top_alone() -> None:
    child = Child()
    assert probe_rendering(ask=child, environment={}, mujoco_version=lambda: None) == Rendering()
    assert child.asked == ["tabletop"]
    assert probe_rendering(ask=Child(tabletop=BLANK), environment={}).tabletop == "the picture has one colour"


def test_mujoco_draws_with_egl_or_else_osmesa() -> None:
    child = Child(egl=ChildAnswer(None, fault="EGLError"))
    found = probe_rendering(ask=child, environment={}, mujoco_version=lambda: "3.2.3")
    assert found == Rendering(mujoco="3.2.3", drawn_by="osmesa", faults={"egl": "EGLError"})
    assert child.asked == ["egl", "osmesa", "tabletop"]


def test_mujoco_as_it_is_told_to() -> None:
    child = Child(glfw=ChildAnswer(None, hangs_at="drawing"))
    found = probe_rendering(ask=child, environment={"MUJOCO_GL": "glfw"}, mujoco_version=lambda: "3.2.3")
    assert found == Rendering(mujoco="3.2.3", faults={"glfw": "no frame within 60 s"}, chosen="glfw")
