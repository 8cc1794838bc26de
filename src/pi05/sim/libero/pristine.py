"""A scene of LIBERO as it is when it has just been built, so that it need not be built again for every episode.

openpi and LeRobot build a task's scene anew for each episode: 1.3 s for the model's XML, 2 s for meshes on the graphics
side. robosuite's soft reset leaves traces of the episode before: fixtures that were moved, what a stove's knob has
switched on, the gripper's last command. Here all of them are put back, to the same bits (`test_simulator.py`).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

_LARGE = ("mesh_", "tex_", "hfield_", "skin_", "flex_", "bvh_", "names")
"""Beginnings of the names of arrays that nothing changes and that take megabytes."""


@dataclass(frozen=True)
class Pristine:
    """What an episode may change, from before the first one."""

    arrays: dict[str, np.ndarray]
    """Every array of MuJoCo's model but the large ones."""
    properties: dict[str, dict[str, Any]]
    """By object: ranges of its joints, and which of its sites are to be seen."""

    @classmethod
    def of(cls, domain: Any) -> Pristine:
        """Take down a robosuite environment whose scene has just been built."""
        model = domain.sim.model._model
        names = [name for name in dir(model) if not name.startswith(("_", *_LARGE))]
        arrays = {name: getattr(model, name) for name in names}
        return cls(
            {name: array.copy() for name, array in arrays.items() if isinstance(array, np.ndarray)},
            {name: deepcopy(thing.object_properties) for name, thing in _things(domain).items()},
        )

    def restore(self, domain: Any) -> None:
        """Put everything back, and compute what follows from it as often as after building: the solver starts there."""
        sim = domain.sim
        sim.reset()
        for name, array in self.arrays.items():
            getattr(sim.model._model, name)[:] = array
        for name, thing in _things(domain).items():
            thing.object_properties.clear()  # sites share this dictionary with the object that they are on
            thing.object_properties.update(deepcopy(self.properties[name]))
        for robot in domain.robots:
            robot.gripper.current_action = np.zeros(robot.gripper.dof)
        sim.forward()  # LIBERO does when the model is made,
        sim.forward()  # and when the graphics context is


def _things(domain: Any) -> dict[str, Any]:
    things = {**domain.fixtures_dict, **domain.objects_dict}
    return {name: thing for name, thing in things.items() if hasattr(thing, "object_properties")}
