"""Open a data set despite its faults: each becomes a finding, and what can still be looked at is looked at.

The reader refuses a set at its first fault. Here that fault is noted in the reader's own words, what it concerns (an
episode, a camera) is left out, and the set is opened again, so that one check names them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pi05.data.lerobot.files import excluding
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError, UserError
from pi05.finding import Finding, error

MOST_FAULTS = 30
"""Faults after which nothing more is left out: such a set is broken as a whole."""
NAMES = {"empty_task": "language.empty", "values": "numbers.values"}
"""Findings of faults whose topic belongs to another family than structure."""

OpenWithout = Callable[[Sequence[int], Sequence[str]], Dataset]
"""Opens the set without these episodes and cameras."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What could be opened of a data set."""

    dataset: Dataset | None
    """None where nothing of it can be looked at."""
    findings: list[Finding]
    episodes: tuple[int, ...] = ()
    """Episodes that had to be left out."""
    cameras: tuple[str, ...] = ()
    """Cameras that had to be left out."""


def open_despite_faults(open_without: OpenWithout) -> Opened:
    """Open a data set, leaving out what is broken; states and actions of what is left are read. Raises no DataError."""
    findings: list[Finding] = []
    episodes: set[int] = set()
    cameras: list[str] = []
    while True:
        try:
            dataset = open_without(sorted(episodes), tuple(cameras))
            broken = _broken_numbers(dataset)
        except DataError as fault:
            findings.append(finding_of(fault))
            further = set(fault.episodes) - episodes
            ghosts = [camera for camera in fault.cameras if camera not in cameras]
            if (not further and not ghosts) or len(findings) > MOST_FAULTS:
                return Opened(dataset=None, findings=findings)
            episodes, cameras = episodes | further, cameras + ghosts
            continue
        if broken is not None:
            findings.append(broken)
            episodes |= set(broken.numbers["episodes"])
            continue
        return Opened(dataset=dataset, findings=findings, episodes=tuple(sorted(episodes)), cameras=tuple(cameras))


def _broken_numbers(dataset: Dataset) -> Finding | None:
    """Read all states and actions; return the finding on those that are NaN or infinite, None where none is."""
    try:
        dataset.states()
        return None
    except DataError:
        found = dataset.broken_numbers()
        if not found:
            raise
    first = min(found)
    count = sum(frames for frames, _ in found.values())
    return error(
        "numbers.not_finite",
        f"{len(found)} of {dataset.num_episodes} episodes hold values that are not numbers, in {count} frames; the "
        f"first: episode {first}, {found[first][1]}",
        "is refused at its start",
        f"leave the episodes out with {excluding(*sorted(found))}, or repair them",
        {"episodes": sorted(found), "frames": {str(episode): frames for episode, (frames, _) in found.items()}},
    )


def finding_of(fault: UserError, family: str = "structure") -> Finding:
    """Return a refusal as a finding, in its own words."""
    topic = fault.topic if isinstance(fault, DataError) else "refused"
    parts = [fault.problem]
    parts += [f"wanted: {fault.wanted}"] if fault.wanted is not None else []
    parts += [f"found: {fault.found}"] if fault.found is not None else []
    numbers = {}
    if isinstance(fault, DataError):
        numbers = {"episodes": list(fault.episodes)} if fault.episodes else {}
        numbers |= {"cameras": list(fault.cameras)} if fault.cameras else {}
    name = NAMES.get(topic, f"{family}.{topic}")
    return error(name, "; ".join(parts), "is refused at its start", fault.remedy, numbers)
