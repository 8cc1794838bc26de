from __future__ import annotations

import base64
import io
import random

import numpy as np
from PIL import Image

from pi05.eval.episode import EpisodeResult
from pi05.eval.film import Film, Gallery
from pi05.pages.pictures import clip, still, strip


def film(index: int, outcome: str = "success", frames: int = 3) -> Film:
    episode = EpisodeResult(index=index, seed=index, instruction="a", asked="a", outcome=outcome, steps=2)  # type: ignore[arg-type]
    return Film(episode, [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(frames)], 1)


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_the_first_episodes_are_kept_in_whatever_order_they_end() -> None:
    films = [film(i, "success" if i % 2 else "failure") for i in range(10)] + [film(99, frames=0)]
    for seed in range(5):
        random.Random(seed).shuffle(films)
        gallery = Gallery(limit=2)
        for each in films:
            gallery.offer(each)
        assert [f.episode.index for f in gallery.of("success")] == [1, 3]
        assert [f.episode.index for f in gallery.of("failure")] == [0, 2]
        assert len(gallery.films) == 4
    assert Gallery(limit=0).of("success") == []


def test_a_strip_runs_from_the_first_frame_to_the_last() -> None:
    frames = film(0, frames=20).frames
    pictures = [np.asarray(opened(address).convert("RGB")).mean() for address in strip(frames, 5)]
    assert len(pictures) == 5
    np.testing.assert_allclose(pictures, [0, 50, 100, 140, 190], atol=8)
    assert len(strip(frames[:3], 7)) == 3
    assert len(strip(frames[:1], 7)) == 1


def test_a_clip_moves_and_a_still_is_exact() -> None:
    frames = film(0, frames=6).frames
    moving = opened(clip(frames, 100))
    assert moving.n_frames == 6
    assert moving.is_animated
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(opened(still(noise))), noise)
