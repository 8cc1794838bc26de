"""Which episodes are trained on and which are held out, by task and from the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np


def split_episodes(
    dataset: Any, fraction: float, seed: int, episodes: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Return (training, held-out) episodes: `fraction` of each task's, at least one per task with more than four.

    Where that gives fewer than `fraction` of all, tasks with two to four episodes give one each until it is reached.
    `fraction` 0 holds nothing out. The same seed gives the same split. `episodes` limits the choice.
    """
    chosen = range(dataset.num_episodes) if episodes is None else episodes
    if fraction == 0:
        return list(chosen), []
    by_task: dict[str, list[int]] = defaultdict(list)
    for index in chosen:
        by_task[dataset.episodes[index].tasks[0]].append(index)
    rng = np.random.default_rng(seed)
    held_out: list[int] = []
    small: list[int] = []
    for task in sorted(by_task):
        shuffled = rng.permutation(by_task[task]).tolist()
        if len(shuffled) > 4:
            held_out += shuffled[: min(max(1, round(fraction * len(shuffled))), len(shuffled) - 1)]
        elif len(shuffled) > 1:
            small.append(shuffled[0])
    missing = round(fraction * len(chosen)) - len(held_out)
    held_out += rng.permutation(small).astype(int).tolist()[: max(0, missing)]
    return sorted(set(chosen) - set(held_out)), sorted(held_out)
