from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pi05.sim.libero.shapes import SPACING, Shapes, fill_box, height_over, near, rotation

BOX, MESH = 6, 7


def scene() -> Any:
    """A cup on a drawer that is part of a cabinet; a geom for pictures only; bodies 1 cabinet, 2 drawer, 3 cup."""
    geoms = [  # body, type, contype, half sizes, place in the body
        (1, BOX, 1, (0.1, 0.1, 0.05), (0.0, 0.0, 0.05)),
        (2, BOX, 1, (0.05, 0.05, 0.01), (0.0, 0.0, 0.11)),
        (3, MESH, 0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
        (3, BOX, 1, (0.02, 0.02, 0.04), (0.0, 0.0, 0.04)),
        (0, BOX, 1, (9.0, 9.0, 0.1), (0.0, 0.0, -0.1)),
    ]
    body, kind, contype, half, place = zip(*geoms, strict=True)
    model = SimpleNamespace(
        ngeom=len(geoms),
        geom_bodyid=np.array(body),
        geom_type=np.array(kind),
        geom_contype=np.array(contype),
        geom_conaffinity=np.zeros(len(geoms)),
        geom_size=np.array(half),
        geom_pos=np.array(place),
        geom_quat=np.tile([1.0, 0.0, 0.0, 0.0], (len(geoms), 1)),
        body_parentid=np.array([0, 0, 1, 0]),
    )
    data = SimpleNamespace(
        body_xpos=np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -0.02], [0.0, 0.0, -0.02], [0.5, 0.0, 0.0]]),
        body_xmat=np.tile(np.eye(3).ravel(), (4, 1)),
    )
    sim = SimpleNamespace(model=model, data=data)
    names = SimpleNamespace(obj_body_id={"cabinet_1": 1, "cup_1": 3}, objects_dict={"cup_1": None})
    return SimpleNamespace(sim=sim, env=names)


def test_points_fill_a_box_with_its_corners() -> None:
    points = fill_box(np.array([0.01, 0.02, 0.03]))
    np.testing.assert_allclose(points.min(axis=0), [-0.01, -0.02, -0.03])
    np.testing.assert_allclose(points.max(axis=0), [0.01, 0.02, 0.03])
    for axis in range(3):
        assert np.diff(np.unique(points[:, axis])).max() <= SPACING + 1e-12


def test_a_quaternion_turns_as_mujoco_says() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotation(np.array([half, 0, 0, half])) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation(np.array([half, half, 0, 0])) @ [0, 1, 0], [0, 0, 1], atol=1e-12)


def test_things_have_their_own_boxes_and_those_of_their_parts() -> None:
    simulator = scene()
    shapes = Shapes(simulator)
    assert shapes.names == ("cabinet_1", "cup_1")
    assert shapes.owner == {0: "cabinet_1", 1: "cabinet_1", 3: "cup_1"}  # neither pictures nor the table
    cup = shapes.points("cup_1")
    np.testing.assert_allclose([cup.min(axis=0), cup.max(axis=0)], [[0.48, -0.02, 0], [0.52, 0.02, 0.08]], atol=1e-12)
    np.testing.assert_allclose(shapes.points("cabinet_1")[:, 2].max(), 0.1)
    assert shapes.ground == pytest.approx(0.0)  # where the cup stands, though the cabinet reaches below it
    np.testing.assert_array_equal(shapes.others("cup_1"), shapes.points("cabinet_1"))


def test_points_follow_their_body() -> None:
    simulator = scene()
    shapes = Shapes(simulator)
    simulator.sim.data.body_xpos[2] = [0.2, 0.0, -0.02]  # the drawer opens
    simulator.sim.data.body_xmat[3] = [0, -1, 0, 1, 0, 0, 0, 0, 1]  # the cup turns by a quarter
    assert shapes.points("cabinet_1")[:, 0].max() == pytest.approx(0.25)
    np.testing.assert_allclose(shapes.points("cup_1").max(axis=0), [0.52, 0.02, 0.08], atol=1e-12)


def test_what_is_no_box_is_an_error() -> None:
    simulator = scene()
    simulator.sim.model.geom_contype[2] = 1
    with pytest.raises(ValueError, match="cup_1 is not made of boxes: geom 2 has type 7"):
        Shapes(simulator)


def test_points_beside_a_way() -> None:
    points = np.array([[0.5, 0.09, 1.0], [0.5, 0.11, 2.0], [-0.09, 0.0, 0.5], [1.2, 0.0, 3.0]])
    start, end = np.array([0.0, 0.0]), np.array([1.0, 0.0])
    np.testing.assert_array_equal(near(points, start, end, 0.1)[:, 2], [1.0, 0.5])
    np.testing.assert_array_equal(near(points, end, end, 0.3)[:, 2], [3.0])
    assert height_over(near(points, start, end, 0.1), -1.0) == 1.0
    assert height_over(points[:0], -1.0) == -1.0
