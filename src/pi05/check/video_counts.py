"""How many frames the videos hold against the rows of their episodes, by their headers: every file, none decoded.

A count tells that frames are too many, not where: frames that were filmed before an episode began cannot be told from
such that came after its end. `check_video_counts` says so. Pictures: `pictures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pi05.check.structure import named
from pi05.check.subject import Subject
from pi05.data.lerobot.clips import ClipCount
from pi05.data.lerobot.files import dropping, excluding
from pi05.finding import Finding, error, ok, warning

TOLERANCE = 1
"""Frames that start times in seconds may round to between the episodes of one file."""


def check_video_counts(subject: Subject, progress: Callable[[int, int, str], None]) -> Iterator[Finding]:
    """Yield what the headers of all videos tell about missing and surplus frames."""
    dataset = subject.dataset
    for number, camera in enumerate(dataset.camera_keys):
        counts: list[ClipCount] = []
        for count in dataset.clip_counts(camera):
            counts.append(count)
            progress(
                number * len(subject.episodes) + len(counts), len(dataset.camera_keys) * len(subject.episodes), camera
            )
        if counts:
            yield from judge_counts(camera, sorted(counts, key=lambda count: count.episode), dataset.fps)


def judge_counts(camera: str, counts: list[ClipCount], fps: float) -> Iterator[Finding]:
    """Yield the findings on one camera's videos."""
    missing = [count for count in counts if count.frames < count.rows - (0 if count.is_last else TOLERANCE)]
    surplus = [count for count in counts if count.frames > count.rows + (0 if count.is_last else TOLERANCE)]
    if missing:
        episodes, first = [count.episode for count in missing], missing[0]
        yield error(
            "structure.missing_frames",
            f"camera {camera}: the videos of {len(missing)} of {len(counts)} episodes ({named(episodes)}) hold fewer "
            f"frames than rows; episode {first.episode}: {first.frames} of {first.rows}, {first.path}",
            "is refused when it decodes them",
            f"download the data set again; or {excluding(*episodes[:50])}, or {dropping(camera)}",
            {"camera": camera, "episodes": episodes, "frames": [count.frames - count.rows for count in missing]},
        )
    if surplus:
        episodes = [count.episode for count in surplus]
        most = max(surplus, key=lambda count: count.frames - count.rows)
        extra = most.frames - most.rows
        yield warning(
            "structure.surplus_frames",
            f"camera {camera}: the videos of {len(surplus)} of {len(counts)} episodes ({named(episodes)}) hold more "
            f"frames than rows, up to {extra} (episode {most.episode}); the count does not tell whether they come "
            "before the episode or after it",
            f"takes them to come after its end; were they filmed before it, every picture is {extra / fps:.2g} s late",
            "compare picture and state at a movement that both show, and cut the videos; or "
            f"{excluding(*episodes[:50])}",
            {"camera": camera, "episodes": episodes, "frames": [count.frames - count.rows for count in surplus]},
        )
    if not missing and not surplus:
        yield ok("structure.video_frames", f"camera {camera}: as many frames as rows in {len(counts)} episodes")
