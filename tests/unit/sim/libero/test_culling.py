"""Meshes outside a camera's view are left out of its picture, and the picture is the same to the bit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from libero_here import needs_libero
from libero_programs import measure

from pi05.sim.libero.culling import outside_view


def camera(eye: np.ndarray, forward: np.ndarray, up: np.ndarray, half_angle: float) -> SimpleNamespace:
    near = 0.01
    edge = near * np.tan(half_angle)
    return SimpleNamespace(
        pos=eye, forward=forward, up=up, frustum_near=near, frustum_top=edge, frustum_bottom=-edge, frustum_center=0.0
    )


def random_view(generator: np.random.Generator) -> tuple[SimpleNamespace, np.ndarray]:
    """Return a camera somewhere, and its axes (right, up, forward) as rows."""
    axes = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    axes[0] = np.cross(axes[2], axes[1])
    return camera(generator.normal(size=3), axes[2], axes[1], generator.uniform(0.1, 1.2)), axes


def is_seen(view: SimpleNamespace, axes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Tell which points are in the picture, by projecting them."""
    right, up, ahead = axes @ (points - view.pos).T
    in_front = ahead >= view.frustum_near
    limit = view.frustum_top / view.frustum_near * np.where(in_front, ahead, 1.0)
    return in_front & (np.abs(right) <= limit) & (np.abs(up) <= limit)


@pytest.mark.parametrize("seed", range(20))
def test_no_sphere_is_left_out_of_which_a_point_is_seen(seed: int) -> None:
    generator = np.random.default_rng(seed)
    view, axes = random_view(generator)
    centres, radii = generator.normal(size=(300, 3)) * 2, generator.uniform(0.01, 1.0, 300)
    outside = outside_view(centres, radii, [view, view])
    directions = generator.normal(size=(200, 3))
    directions *= (generator.uniform(size=200) ** (1 / 3) / np.linalg.norm(directions, axis=1))[:, None]
    for centre, radius, left_out in zip(centres, radii, outside, strict=True):
        assert not (left_out and is_seen(view, axes, centre + radius * directions).any())
    assert 30 < outside.sum() < 300, "some are left out, and not all"


def test_small_spheres_are_left_out_where_their_centre_is_not_seen() -> None:
    """So that what is left out is not too little, either: within a hand's breadth of the picture's edge."""
    generator = np.random.default_rng(0)
    view, axes = random_view(generator)
    centres = view.pos + generator.normal(size=(500, 3))
    outside = outside_view(centres, np.full(500, 1e-4), [view, view])
    differing = outside == is_seen(view, axes, centres)
    assert differing.mean() < 0.01


def test_a_view_from_two_eyes_is_that_of_their_mean() -> None:
    left = camera(np.array([-0.5, 0, 0]), np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), 0.5)
    right = camera(np.array([0.5, 0, 0]), np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), 0.5)
    centres = np.array([[0.0, 0.0, 1.0], [0.9, 0.0, 1.0], [0.0, 0.0, -1.0]])
    assert outside_view(centres, np.full(3, 0.05), [left, right]).tolist() == [False, True, True]


@needs_libero
@pytest.mark.process
def test_the_pictures_stay_the_same_to_the_bit() -> None:
    found = measure("left_out")
    assert found["plain"] == {"hidden": 13, "same": True, "colours": True}
    assert found["shadow"] == {"hidden": 0, "same": True, "colours": True}
    assert found["mirror"] == {"hidden": 0, "same": True, "colours": True}


@needs_libero
@pytest.mark.process
@pytest.mark.slow
def test_the_hand_camera_of_libero_leaves_out_most_of_the_robot() -> None:
    found = measure("left_out_of_libero")
    assert found["same"] == [True] * 8
    assert found["robot0_eye_in_hand"] > 30
    assert found["agentview"] > 0
