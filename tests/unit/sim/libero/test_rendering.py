"""Which graphics library is chosen, and what is said where none draws."""

from __future__ import annotations

import pytest

from pi05.child import ChildAnswer
from pi05.errors import EvaluationError
from pi05.sim.libero.rendering import CHOSEN, DREW, Drawn, choose_rendering, draw_with, fault_of, find_way


class Ways:
    """Libraries and why they do not draw."""

    def __init__(self, **faults: str) -> None:
        self.faults, self.tried = faults, list[str]()

    def __call__(self, way: str) -> str | None:
        self.tried.append(way)
        return self.faults.get(way)


def test_egl_then_osmesa_or_what_mujoco_gl_says() -> None:
    assert find_way(Ways(), None) == Drawn("egl")
    assert find_way(Ways(egl="EGLError"), None) == Drawn("osmesa", {"egl": "EGLError"})
    assert find_way(Ways(glfw="no DISPLAY"), "glfw") == Drawn(None, {"glfw": "no DISPLAY"})


def test_the_choice_is_inherited_and_not_made_twice() -> None:
    environment: dict[str, str] = {}
    ways = Ways(egl="EGLError")
    assert choose_rendering(ways, environment) == "osmesa"
    assert environment == {CHOSEN: "osmesa", DREW: "osmesa"}
    assert choose_rendering(ways, environment) == "osmesa"
    assert ways.tried == ["egl", "osmesa"]
    environment[CHOSEN] = "egl"  # the user's own word is tried, whatever drew before
    with pytest.raises(EvaluationError, match="EGLError"):
        choose_rendering(ways, environment)


def test_none_draws() -> None:
    with pytest.raises(EvaluationError) as refusal:
        choose_rendering(Ways(egl="EGL_NOT_INITIALIZED", osmesa="no libOSMesa"), {})
    assert refusal.value.found == "egl: EGL_NOT_INITIALIZED; osmesa: no libOSMesa"
    assert "sudo apt-get install libegl1 " in refusal.value.remedy
    assert "unset" not in refusal.value.remedy
    with pytest.raises(EvaluationError, match="unset MUJOCO_GL"):
        choose_rendering(Ways(glfw="no DISPLAY"), {CHOSEN: "glfw"})


def test_a_childs_answer() -> None:
    assert fault_of(ChildAnswer({"drawn": True})) is None
    assert fault_of(ChildAnswer({"drawn": False})) == "the picture has one colour"
    assert fault_of(ChildAnswer(None, hangs_at="drawing")) == "no frame within 60 s"
    assert fault_of(ChildAnswer(None, fault="killed by SIGSEGV")) == "killed by SIGSEGV"
    asked = {}

    def ask(module: str, **options: object) -> ChildAnswer:
        asked.update(options, module=module)
        return ChildAnswer({"drawn": True})

    assert draw_with("osmesa", ask) is None
    assert asked["environment"] == {"MUJOCO_GL": "osmesa"}
