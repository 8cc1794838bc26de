from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from pi05.eval.episode import EpisodeResult
from pi05.eval.film import Film, Gallery


def film(index: int, outcome: str = "success", frames: int = 3) -> Film:
    episode = EpisodeResult(index=index, seed=index, instruction="a", asked="a", outcome=outcome, steps=2)  # type: ignore[arg-type]
    return Film(episode, [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(frames)], 1)


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


def test_several_tasks_share_the_films_and_each_has_one() -> None:
    def of(task: str, index: int) -> Film:
        one = film(index)
        return Film(replace(one.episode, task=task), one.frames, 1)

    films = [of(f"task_{i % 3}", i) for i in range(12)]
    for limit, kept in ((1, [0, 1, 2]), (4, [0, 1, 2, 3, 4, 5]), (0, [])):
        gallery = Gallery(limit=limit, tasks=3)
        told = [gallery.offer(each) for each in films]
        assert sorted(gallery.films) == kept
        assert [index for index, one in enumerate(told) if one] == kept
