from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pi05.pages.pictures import clip, still, strip


def gray(count: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(count)]


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_a_strip_runs_from_the_first_frame_to_the_last() -> None:
    frames = gray(20)
    pictures = [np.asarray(opened(address).convert("RGB")).mean() for address in strip(frames, 5)]
    assert len(pictures) == 5
    np.testing.assert_allclose(pictures, [0, 50, 100, 140, 190], atol=8)
    assert len(strip(frames[:3], 7)) == 3
    assert len(strip(frames[:1], 7)) == 1


def test_a_clip_moves_and_a_still_is_exact() -> None:
    frames = gray(6)
    moving = opened(clip(frames, 100))
    assert moving.n_frames == 6
    assert moving.is_animated
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(opened(still(noise))), noise)
