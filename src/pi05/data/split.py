"""Which episodes are trained on and which are held out, by task and from the seed.

An episode's side never changes while a data set grows: it is decided by the episodes before it alone. So a policy that
is trained on goes on, on the longer set, without having seen what it is measured on.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

SMALL = 4
"""Episodes of a task up to which none of them has to be held out."""


def split_episodes(
    dataset: Any, fraction: float, seed: int, episodes: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Return (training, held-out) episodes: `fraction` of each task's, at least one per task with more than four.

    Of the first 1/fraction episodes of a task the fifth is held out, of each further such stretch one that the seed
    chooses. Tasks with two to four episodes give one while less than `fraction` of all before is held out. `fraction` 0
    holds nothing out. `episodes` limits the choice and moves nobody, unless a task were left without either kind.
    """
    chosen = range(dataset.num_episodes) if episodes is None else episodes
    if fraction == 0:
        return list(chosen), []
    share = Fraction(str(fraction))

    def decide(numbers: Iterable[int]) -> set[int]:
        return _decide([(number, _task(dataset, number)) for number in numbers], share, seed)

    held_out = decide(range(dataset.num_episodes)) & set(chosen)
    by_task: dict[str, list[int]] = defaultdict(list)
    for number in sorted(chosen):
        by_task[_task(dataset, number)].append(number)
    for numbers in by_task.values():
        if held_out.issuperset(numbers):
            held_out.discard(numbers[0])
        elif len(numbers) > SMALL and held_out.isdisjoint(numbers):
            held_out |= decide(numbers)
    held_out = held_out or decide(chosen)
    return sorted(set(chosen) - held_out), sorted(held_out)


def _task(dataset: Any, number: int) -> str:
    return next(iter(dataset.episodes[number].tasks), "")


def _decide(episodes: Sequence[tuple[int, str]], share: Fraction, seed: int) -> set[int]:
    """Return the held-out ones, each decided from those before it."""
    held_out: set[int] = set()
    seen: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for total, (number, task) in enumerate(episodes, start=1):
        turn = seen[task]
        seen[task] += 1
        if turn == 0:
            continue  # a task is trained on before it is measured
        stretch = math.floor(turn * share)
        if stretch > 0 or share * (SMALL + 1) > 1:
            wanted = turn == _picked(task, stretch, share, seed)
        elif turn < SMALL:
            wanted = not held[task] and len(held_out) + 1 <= share * total
        else:
            wanted = turn == SMALL and not held[task]
        if wanted:
            held_out.add(number)
            held[task] += 1
    return held_out


def _picked(task: str, stretch: int, share: Fraction, seed: int) -> int:
    """Return which of a task's episodes is held out of its stretch, never the task's first one."""
    start, stop = (math.ceil(bound / share) for bound in (stretch, stretch + 1))
    start = max(start, 1)
    digest = hashlib.sha256(f"{seed}/{task}/{stretch}".encode()).digest()
    return start + int.from_bytes(digest[:8], "big") % max(stop - start, 1)
