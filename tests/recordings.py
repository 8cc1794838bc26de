"""Data sets recorded with the writer: their features, and frames that show their number."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes import numbered_image

from pi05.data.lerobot.writer import DatasetWriter

SCENE, WRIST = "observation.images.scene", "observation.images.wrist"


def make_features(size: int = 48, cameras: tuple[str, ...] = (SCENE, WRIST), dims: int = 4) -> dict[str, Any]:
    features: dict[str, Any] = {c: {"dtype": "video", "shape": [size, size, 3]} for c in cameras}
    vector = {"dtype": "float32", "shape": [dims], "names": [f"joint_{d}" for d in range(dims)]}
    return features | {"observation.state": vector, "action": vector}


def add(writer: DatasetWriter, number: int, length: int = 1) -> None:
    """Add numbered frames whose state and action say the number, too."""
    for i in range(number, number + length):
        images = {SCENE: numbered_image(i, 0, 48, 48), WRIST: numbered_image(i, 1, 48, 48)}
        writer.add_frame(images, {"observation.state": np.full(4, i), "action": np.full(4, -i)})
