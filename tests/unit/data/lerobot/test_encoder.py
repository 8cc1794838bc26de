"""The quality of small and of large pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from recordings import SCENE, make_features

from pi05.data.lerobot.encoder import PHOTO, SMALL, quality_for
from pi05.data.lerobot.reader import Dataset
from pi05.data.lerobot.writer import DatasetWriter


def test_small_pictures_keep_their_colours(tmp_path: Path) -> None:
    image = np.full((48, 48, 3), (196, 178, 150), np.uint8)
    image[20:26, 11:17] = (220, 40, 40)
    image[31:37, 30:36] = (40, 80, 220)
    errors = {}
    for quality in (PHOTO, SMALL):
        features = make_features(cameras=(SCENE,))
        root = tmp_path / quality.pixel_format
        with DatasetWriter(root, 10, features, "r", quality=quality) as writer:
            for _ in range(5):
                writer.add_frame({SCENE: image}, {"observation.state": np.zeros(4), "action": np.zeros(4)})
            writer.end_episode("look")
        errors[quality] = np.abs(Dataset(root).image(SCENE, 3).astype(int) - image)
    assert errors[SMALL].mean() < 1.0
    assert errors[SMALL].max() < 25 < errors[PHOTO].max()
    assert quality_for(48, 640) == SMALL
    assert quality_for(480, 640) == PHOTO
