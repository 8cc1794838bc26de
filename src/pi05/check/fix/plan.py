"""What the repaired copy will consist of: which episodes, which of their frames, under which numbers and tasks.

Everything is decided here, before a byte is written; `tables.py`, `lists.py` and `links.py` carry it out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from pi05.check.fix.clips import ClipLooks
from pi05.check.fix.cuts import find_cuts
from pi05.check.fix.idle import range_of
from pi05.check.fix.judge import Verdict, judge_all
from pi05.check.fix.source import Place, Source
from pi05.check.fix.tasks import TaskList, count_tasks, mend_tasks
from pi05.data.lerobot.layout import EpisodeFiles
from pi05.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One episode of the copy."""

    files: EpisodeFiles
    """As the source lists it."""
    place: Place
    number: int
    """In the copy."""
    start: int
    """Number of its first frame in the copy."""
    cut: tuple[int, int]
    """Frames left out at its start and at its end."""
    verdict: Verdict
    """Without its arrays."""
    tasks: Counter[int]
    """How many frames show each task number of the source; empty where the set has no such column."""

    @property
    def length(self) -> int:
        """Frames in the copy."""
        return self.place.count - sum(self.cut)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The copy."""

    source: Source
    kept: list[Kept]
    dropped: dict[int, str]
    """By the source's number: why."""
    tasks: TaskList
    idle_left: dict[int, int]
    """Episodes with idle ends that cannot be cut, and how many frames these are."""

    @property
    def same_frames(self) -> bool:
        """Whether every episode is there, whole, under its own number."""
        return not self.dropped and all(k.number == k.files.index and not sum(k.cut) for k in self.kept)


def make_plan(
    source: Source, excluded: Collection[int] = (), progress: Callable[[int, int], None] | None = None
) -> Plan:
    """Judge every episode but those that are `excluded`. Raises DataError where none can be kept.

    `progress` gets episodes done, and of how many.
    """
    looks, dropped = ClipLooks(source.layout), {}
    whole: list[Kept] = []
    spans: list[np.ndarray] = []
    for number, (episode, place, verdict) in enumerate(judge_all(source, looks), start=1):
        if progress is not None:
            progress(number, len(source.layout.episodes))
        if episode.index in excluded:
            dropped[episode.index] = "as asked"
            continue
        if verdict.broken is not None or not isinstance(place, Place):
            dropped[episode.index] = str(verdict.broken)
            continue
        tasks = Counter[int]() if verdict.tasks is None else count_tasks(verdict.tasks)
        spans.append(_extremes(verdict))
        light = replace(verdict, state=None, action=None, tasks=None)
        whole.append(Kept(files=episode, place=place, number=0, start=0, cut=(0, 0), verdict=light, tasks=tasks))
    tasks = _tasks(source, whole)
    dropped |= {kept.files.index: reason for kept in whole if (reason := _no_task(kept, tasks)) is not None}
    chosen = [kept for kept in whole if kept.files.index not in dropped]
    if not chosen:
        raise _nothing_left(source, dropped)
    chosen.sort(key=lambda kept: (kept.place.table, kept.place.first) if source.version == "v3.0" else kept.files.index)
    cuts, left = find_cuts(source, [(kept.files, kept.place) for kept in chosen], range_of(spans))
    placed, start = [], 0
    for number, kept in enumerate(chosen):
        placed.append(replace(kept, number=number, start=start, cut=cuts.get(kept.files.index, (0, 0))))
        start += placed[-1].length
    return Plan(source=source, kept=placed, dropped=dropped, tasks=tasks, idle_left=left)


def _no_task(kept: Kept, tasks: TaskList) -> str | None:
    """Return why nobody knows what an episode shows, or None."""
    for number in kept.tasks:
        text = tasks.texts.get(tasks.number.get(number, -1))
        if text is None or not text.replace("_", " ").strip():
            return f"nothing tells the text of its task {number}"
    listed = [text for text in kept.files.tasks if text in tasks.texts.values()]
    return None if kept.tasks or len(listed) == 1 else "neither its frames nor the episode list tell its task"


def _extremes(verdict: Verdict) -> np.ndarray:
    """Return smallest and largest value of each dimension of state and action."""
    both = np.concatenate([np.asarray(verdict.state), np.asarray(verdict.action)], axis=1)
    return np.stack([both.min(0), both.max(0)])


def _tasks(source: Source, whole: list[Kept]) -> TaskList:
    """Return the mended task list."""
    features = source.layout.features
    pointing = [n for n in features if n != "task_index" and re.search(r"annotation|task", n, re.IGNORECASE)]
    return mend_tasks(
        source.layout.tasks,
        {kept.files.index: kept.tasks for kept in whole if kept.tasks},
        {kept.files.index: kept.files.tasks for kept in whole},
        renumber=not pointing and sorted(source.layout.tasks) == list(range(len(source.layout.tasks))),
    )


def _nothing_left(source: Source, dropped: dict[int, str]) -> DataError:
    first = next(iter(sorted(dropped)), None)
    return DataError(
        f"no episode of this data set can be kept: {source.root}",
        wanted="at least one episode whose rows and pictures are all there",
        found="no episode" if first is None else f"{len(dropped)} broken ones; episode {first}: {dropped[first]}",
        remedy="download the data set again, or record it anew; pi05 check lists what is wrong with it",
    )
