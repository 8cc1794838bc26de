"""Paint flat shapes seen from above, antialiased, at any size, with NumPy alone.

Each shape is a signed distance in metres (negative inside); its coverage of a pixel follows from the distance to its
edge. Only the pixels around a shape are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

Colour = tuple[float, float, float]


class View(NamedTuple):
    """A square camera looking straight down: centre (m), half its field of view (m), picture side (px)."""

    x: float
    y: float
    half: float
    size: int


@dataclass(frozen=True)
class Shape:
    """A shape by name, centre (m), radius (m) and colour (0 … 255)."""

    kind: str
    x: float
    y: float
    radius: float
    colour: Colour


def paint(
    view: View, background: Colour, shapes: Sequence[Shape], light: float = 1.0
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the picture; later shapes cover earlier ones. The picture's top is the table's far side (+y)."""
    canvas = np.empty((view.size, view.size, 3), dtype=np.float32)
    canvas[:] = background
    for shape in shapes:
        for kind, radius, shade in _LAYERS.get(shape.kind, ((shape.kind, 1.0, 1.0),)):
            _fill(canvas, view, shape, kind, shape.radius * radius, shade)
    return np.clip(canvas * light + 0.5, 0, 255).astype(np.uint8)


# A shape may be several layers: (outline, radius relative to the shape's, brightness).
_LAYERS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "block": (("square", 1.0, 0.72), ("square", 0.8, 1.0)),
    "ball": (("disc", 1.0, 0.72), ("disc", 0.8, 1.0)),
    "star": (("star", 1.25, 1.0),),
    "plate": (("disc", 1.0, 0.85), ("disc", 0.8, 1.0)),
    "tray": (("square", 0.95, 0.8), ("square", 0.8, 1.0)),
    "bowl": (("disc", 1.0, 1.0), ("disc", 0.62, 0.55)),
    "finger": (("bar", 1.0, 1.0),),
}


def _fill(
    canvas: Float[np.ndarray, "size size 3"], view: View, shape: Shape, kind: str, radius: float, shade: float
) -> None:
    pixel = 2 * view.half / view.size
    reach = radius * 1.5 + pixel
    column = (shape.x - view.x + view.half) / pixel
    row = (view.y + view.half - shape.y) / pixel
    left, right = _span(column, reach / pixel, view.size)
    top, bottom = _span(row, reach / pixel, view.size)
    if left >= right or top >= bottom:
        return
    dx = (np.arange(left, right, dtype=np.float32) + 0.5 - column)[None, :] * pixel
    dy = (row - np.arange(top, bottom, dtype=np.float32) - 0.5)[:, None] * pixel
    coverage = np.clip(0.5 - _distance(kind, dx, dy, radius) / pixel, 0, 1)[..., None]
    patch = canvas[top:bottom, left:right]
    patch += coverage * (np.array(shape.colour, dtype=np.float32) * shade - patch)


def _span(centre: float, reach: float, size: int) -> tuple[int, int]:
    return max(int(centre - reach), 0), min(int(centre + reach) + 2, size)


def _distance(
    kind: str, dx: Float[np.ndarray, "1 w"], dy: Float[np.ndarray, "h 1"], radius: float
) -> Float[np.ndarray, "h w"]:
    """Return the signed distance to the outline, in metres."""
    if kind == "disc":
        return np.hypot(dx, dy) - radius
    if kind == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - radius * 0.9
    if kind == "bar":
        return np.maximum(np.abs(dx) - radius * 0.22, np.abs(dy) - radius)
    if kind == "star":
        angle = np.arctan2(dx, dy)
        return np.hypot(dx, dy) - radius * (0.72 + 0.28 * np.cos(5 * angle))
    raise ValueError(f"no outline called {kind!r}")
