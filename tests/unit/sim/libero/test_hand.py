from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pi05.sim.libero.hand import Hand

LEFT, LEFT_PAD, RIGHT, RIGHT_PAD, CUP = range(5)


def contact(one: int, other: int) -> Any:
    return SimpleNamespace(geom1=one, geom2=other)


def hand(contacts: list[Any]) -> Hand:
    names = {"l": LEFT, "lp": LEFT_PAD, "r": RIGHT, "rp": RIGHT_PAD}
    geoms = {"left_finger": ["l", "lp"], "right_finger": ["r", "rp"]}
    geoms |= {"left_fingerpad": ["lp"], "right_fingerpad": ["rp"]}
    data = SimpleNamespace(
        geom_xpos=np.array([[0, 0, 0], [1.0, 1.0, 5], [0, 0, 0], [1.0, 1.3, 6], [0, 0, 0]]),
        qpos=np.array([9.0, 0.03, -0.02]),
        contact=contacts,
        ncon=len(contacts),
    )
    sim = SimpleNamespace(model=SimpleNamespace(geom_name2id=names.__getitem__), data=data)
    arm = SimpleNamespace(update=lambda: None, ee_pos=np.array([1.0, 2.0, 3.0]))
    gripper = SimpleNamespace(important_geoms=geoms)
    robot = SimpleNamespace(controller=arm, gripper=gripper, _ref_gripper_joint_pos_indexes=[1, 2])
    return Hand(SimpleNamespace(sim=sim, robots=[robot]), {CUP: "cup_1"})


def test_where_it_is_and_how_wide_it_is_open() -> None:
    found = hand([])
    assert found.position.tolist() == [1, 2, 3]
    assert found.opening == pytest.approx(0.05)
    np.testing.assert_allclose(found.closing, [0, 1])


@pytest.mark.parametrize(
    ("contacts", "held"),
    [
        ([], False),
        ([contact(LEFT, CUP)], False),
        ([contact(LEFT_PAD, CUP), contact(LEFT, CUP)], False),
        ([contact(LEFT_PAD, CUP), contact(CUP, RIGHT)], True),
        ([contact(LEFT_PAD, CUP), contact(RIGHT, LEFT)], False),
    ],
)
def test_a_thing_is_held_where_both_fingers_touch_it(contacts: list[Any], held: bool) -> None:
    assert hand(contacts).holds("cup_1") is held
    assert not hand(contacts).holds("plate_1")
