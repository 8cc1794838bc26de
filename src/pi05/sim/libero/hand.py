"""The robot's hand in the simulator, as an expert sees it: where it is, how it is turned, what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

OPEN_ENOUGH = 0.065
"""Distance of the fingers (m) from which they pass a thing on their way down; 0.08 is fully open."""


class Hand:
    """What is read from a robosuite environment with one Panda arm."""

    def __init__(self, simulator: Any, owner: Mapping[int, str]) -> None:
        """Look at the hand of a scene; `owner` is the thing that each collision geom belongs to (`Shapes.owner`)."""
        self._sim = simulator.sim
        robot = simulator.robots[0]
        self._arm = robot.controller
        self._gripper_joints = robot._ref_gripper_joint_pos_indexes
        model = simulator.sim.model
        geoms = robot.gripper.important_geoms
        self._fingers = tuple(
            {model.geom_name2id(name) for name in geoms[side]} for side in ("left_finger", "right_finger")
        )
        self._pads = tuple(model.geom_name2id(geoms[side][0]) for side in ("left_fingerpad", "right_fingerpad"))
        self._owner = owner

    @property
    def position(self) -> Float[np.ndarray, " 3"]:
        """Where the end effector is (m): the point between the fingertips."""
        self._arm.update()
        return np.array(self._arm.ee_pos)

    @property
    def closing(self) -> Float[np.ndarray, " 2"]:
        """The direction in the plane along which the fingers close, as a unit vector."""
        left, right = (self._sim.data.geom_xpos[pad][:2] for pad in self._pads)
        return np.array((right - left) / max(np.linalg.norm(right - left), 1e-9))

    @property
    def opening(self) -> float:
        """Distance of the fingers (m), 0 to 0.08."""
        left, right = self._sim.data.qpos[self._gripper_joints]
        return float(left - right)

    def holds(self, thing: str) -> bool:
        """Tell whether both fingers touch a thing."""
        touched = [False, False]
        for contact in self._sim.data.contact[: self._sim.data.ncon]:
            for finger, other in ((contact.geom1, contact.geom2), (contact.geom2, contact.geom1)):
                if self._owner.get(int(other)) == thing:
                    for side, geoms in enumerate(self._fingers):
                        touched[side] |= int(finger) in geoms
        return all(touched)
