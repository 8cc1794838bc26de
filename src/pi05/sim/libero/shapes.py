"""What the things of a LIBERO scene look like to a hand: points that fill their collision boxes.

Everything that can be touched in LIBERO is made of boxes. A grid of points in each box is enough to ask how wide a
thing is, what stands in the way of a finger, and how high a hand must travel. The points are laid once per episode, in
the frame of the body that carries the box, and follow the bodies afterwards: an open drawer too.

Leaves out pictures, and table and floor, of which only the height counts. All lengths in metres, z points up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

SPACING, SPACING_OF_FIXTURES = 0.006, 0.012
"""Distance of two points at most: half as wide as a finger's pad in what can be taken; as wide in cabinets and stoves,
which would have 50,000 points otherwise."""
BOX = 6
"""mjGEOM_BOX."""

Points = Float[np.ndarray, "_ 3"]


def fill_box(half: Float[np.ndarray, " 3"], spacing: float = SPACING) -> Points:
    """Return a grid of points in a box of these half sizes, its corners among them, at most `spacing` apart."""
    axes = [np.linspace(-side, side, int(np.ceil(2 * side / spacing)) + 1) for side in half]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def rotation(quaternion: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Return the matrix of a unit quaternion w, x, y, z (MuJoCo's order)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


class Shapes:
    """The points of every movable thing and fixture of one episode, by LIBERO's name of it."""

    def __init__(self, simulator: Any) -> None:
        """Lay the points for the scene of a robosuite environment of LIBERO, after its reset."""
        self._data = simulator.sim.data
        model = simulator.sim.model
        roots = {int(body): name for name, body in simulator.env.obj_body_id.items()}
        self.names = tuple(roots.values())
        self._parts: dict[str, list[tuple[int, Points]]] = {name: [] for name in self.names}
        self.owner: dict[int, str] = {}
        """Thing of each collision geom, by the geom's number."""
        for geom in range(model.ngeom):
            name = _owner(model, int(model.geom_bodyid[geom]), roots)
            if name is None or not (model.geom_contype[geom] or model.geom_conaffinity[geom]):
                continue
            if int(model.geom_type[geom]) != BOX:
                raise ValueError(f"{name} is not made of boxes: geom {geom} has type {int(model.geom_type[geom])}")
            spacing = SPACING if name in simulator.env.objects_dict else SPACING_OF_FIXTURES
            grid = fill_box(model.geom_size[geom], spacing) @ rotation(model.geom_quat[geom]).T + model.geom_pos[geom]
            self._parts[name].append((int(model.geom_bodyid[geom]), grid))
            self.owner[geom] = name
        movable = [name for name in simulator.env.objects_dict if self._parts[name]]
        self.ground = float(min(self.points(name)[:, 2].min() for name in movable))
        """Height of table or floor, on which the lowest thing stands; parts of fixtures reach below it."""

    def points(self, name: str) -> Points:
        """Return where the points of a thing are now."""
        parts = self._parts[name]
        if not parts:
            return np.zeros((0, 3))
        placed = [grid @ self._matrix(body).T + self._data.body_xpos[body] for body, grid in parts]
        return np.concatenate(placed)

    def others(self, name: str) -> Points:
        """Return the points of everything but one thing."""
        return np.concatenate([np.zeros((0, 3)), *(self.points(other) for other in self.names if other != name)])

    def _matrix(self, body: int) -> Float[np.ndarray, "3 3"]:
        return np.asarray(self._data.body_xmat[body], dtype=float).reshape(3, 3)


def _owner(model: Any, body: int, roots: dict[int, str]) -> str | None:
    while body > 0:
        if body in roots:
            return roots[body]
        body = int(model.body_parentid[body])
    return None


def near(points: Points, start: Float[np.ndarray, " 2"], end: Float[np.ndarray, " 2"], radius: float) -> Points:
    """Return the points whose place in the plane lies within `radius` of the way from `start` to `end`."""
    way = end - start
    length = max(float(way @ way), 1e-12)
    along = np.clip((points[:, :2] - start) @ way / length, 0.0, 1.0)
    away = np.linalg.norm(points[:, :2] - start - along[:, None] * way, axis=1)
    return points[away <= radius]


def height_over(points: Points, otherwise: float) -> float:
    """Return the height of the highest point, or `otherwise` where there are none."""
    return float(points[:, 2].max()) if len(points) else otherwise
