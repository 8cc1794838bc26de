"""The task list as the frames have it: texts that are missing, spellings of one text, words in the episode list.

Two texts are one where they differ only in upper and lower case, in spaces and underscores, and in a full stop at the
end; the spelling of most frames stays. Anything else that reads alike is left: whether two objects or one are meant,
only the lab knows. A task that no frame shows stays in the list, since other columns may point to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class TaskList:
    """The mended list."""

    texts: dict[int, str]
    """By number."""
    number: dict[int, int]
    """The number that stands for each number of the frames."""
    added: list[int] = field(default_factory=list)
    """Numbers that the list lacked, and whose text the episode list tells."""
    joined: list[tuple[str, str]] = field(default_factory=list)
    """(spelling that is gone, spelling that stays)."""


def mend_tasks(
    listed: Mapping[int, str],
    shown: Mapping[int, Counter[int]],
    told: Mapping[int, Sequence[str]],
    *,
    renumber: bool,
) -> TaskList:
    """Return the task list of the frames.

    `shown` counts the frames of each task number by episode, `told` is what the episode list says of each episode. With
    `renumber` the numbers become 0, 1, 2 … without the spellings that are gone; else these stay in the list, unused.
    """
    texts = dict(listed)
    added = []
    for number in sorted({number for counts in shown.values() for number in counts} - set(listed)):
        words = {tuple(told.get(episode, ())) for episode, counts in shown.items() if number in counts}
        only = next(iter(words)) if len(words) == 1 else ()
        alone = all(len(counts) == 1 for counts in shown.values() if number in counts)
        if len(only) == 1 and alone and only[0].strip():
            same = next((known for known, text in texts.items() if text == only[0]), None)
            texts[number] = only[0] if same is None else texts[same]
            added.append(number)
    frames: Counter[int] = sum(shown.values(), Counter())
    stands = {number: number for number in texts}
    joined: list[tuple[str, str]] = []
    for spellings in _alike(texts).values():
        kept = max(spellings, key=lambda number: (frames[number], "_" not in texts[number], -number))
        for number in spellings:
            stands[number] = kept
            if number != kept and texts[number] != texts[kept]:
                joined.append((texts[number], texts[kept]))
    if renumber:
        staying = sorted(set(stands.values()))
        place = {number: position for position, number in enumerate(staying)}
        texts = {place[number]: texts[number] for number in staying}
        stands = {number: place[kept] for number, kept in stands.items()}
    return TaskList(texts=texts, number=stands, added=added, joined=sorted(joined))


def _alike(texts: Mapping[int, str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, text in texts.items():
        groups.setdefault(spelling(text) or str(number), []).append(number)
    return {key: numbers for key, numbers in groups.items() if len(numbers) > 1}


def spelling(text: str) -> str:
    """Return what is left of a text when its spelling does not count."""
    return re.sub(r"[\s_]+", " ", text).strip().rstrip(".").rstrip().casefold()


def count_tasks(numbers: np.ndarray) -> Counter[int]:
    """Return how many frames have each task number."""
    found, counts = np.unique(numbers.astype(np.int64), return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))
