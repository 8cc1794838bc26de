"""What a camera cannot see need not be drawn: most of a robot, for the camera in its hand.

Without a GPU a picture costs what its triangles cost (0.25 µs each, 300,000 in a scene of libero_object), also those
that lie beside it. A thing whose bounding sphere lies outside the camera's view leaves no trace in the picture, unless
it casts a shadow or is mirrored; where a scene has either, everything is drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

MARGIN = 1e-3
"""m; far above what single precision can shift a triangle by, far below what it would spare to be exact."""


def hide_unseen(scene: Any, bounds: Float64[np.ndarray, " geoms_of_model"]) -> int:
    """Have MuJoCo leave out, of a scene that `mjv_updateScene` has filled for one camera, the meshes that are outside
    its view; return how many. Pictures are square.

    `bounds` are the model's `geom_rbound` (m), each around its geom's position.
    """
    import mujoco

    geoms = list(scene.geoms[: scene.ngeom])
    mirrors = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX)  # MuJoCo reflects in no others
    if _casts_shadows(scene) or any(geom.reflectance > 0 and geom.type in mirrors for geom in geoms):
        return 0
    meshes = [
        geom for geom in geoms if geom.type == mujoco.mjtGeom.mjGEOM_MESH and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM
    ]
    if not meshes or not all(_looks_straight(camera) for camera in scene.camera):
        return 0
    centres = np.array([geom.pos for geom in meshes], dtype=np.float64)
    radii = bounds[[geom.objid for geom in meshes]]
    unseen = outside_view(centres, radii, scene.camera)
    for geom, hidden in zip(meshes, unseen, strict=True):
        if hidden:
            geom.type = mujoco.mjtGeom.mjGEOM_NONE
    return int(unseen.sum())


def outside_view(
    centres: Float64[np.ndarray, "spheres 3"], radii: Float64[np.ndarray, " spheres"], cameras: Any
) -> Bool[np.ndarray, " spheres"]:
    """Tell which spheres lie wholly outside a square picture. `cameras` are a scene's two, for the left and the right
    eye, of which MuJoCo draws the mean."""
    eye, forward, up = (
        np.mean([np.asarray(getattr(camera, name), dtype=np.float64) for camera in cameras], axis=0)
        for name in ("pos", "forward", "up")
    )
    right = np.cross(forward, up)
    first = cameras[0]
    reach = radii + MARGIN
    places = np.stack(((centres - eye) @ right, (centres - eye) @ up, (centres - eye) @ forward), axis=1)
    outside: Bool[np.ndarray, " spheres"] = places[:, 2] + reach < first.frustum_near
    top, bottom = first.frustum_top / first.frustum_near, first.frustum_bottom / first.frustum_near
    half = (top - bottom) / 2
    for axis, slope, side in ((1, top, 1.0), (1, bottom, -1.0), (0, half, 1.0), (0, -half, -1.0)):
        # The plane through the eye and an edge of the picture; its normal points out of the view.
        distance = side * (places[:, axis] - slope * places[:, 2]) / np.hypot(1.0, slope)
        outside |= distance > reach
    return outside


def _looks_straight(camera: Any) -> bool:
    """Tell whether a view is a pyramid about the camera's axis, square as the picture; all of LIBERO's are."""
    return not (getattr(camera, "orthographic", False) or camera.frustum_width or camera.frustum_center)


def _casts_shadows(scene: Any) -> bool:
    import mujoco

    if not scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW]:
        return False
    return any(light.castshadow for light in scene.lights[: scene.nlight])
