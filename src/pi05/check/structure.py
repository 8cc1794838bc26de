"""Files, episodes and clocks: what the reader passed over, what info.json claims, duplicates, leftovers of a recording.

Opens no video (`video_counts.py`). What the reader refuses becomes a finding in `opening.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pi05.check.config import ALLOWANCE_OF
from pi05.check.copies import find_copies
from pi05.check.stored_statistics import check_stored_statistics
from pi05.check.subject import Subject
from pi05.data.lerobot.files import excluding
from pi05.data.lerobot.index_columns import CLOCK_TOLERANCE, INDEX_COLUMNS, LATE_START
from pi05.data.lerobot.layout import is_video
from pi05.files import read_notes
from pi05.finding import Finding, error, note, ok, warning

SHORT_SHARE, SHORT_FRAMES = 0.1, 5
"""An episode is suspiciously short below this share of the median length, or below so many frames."""
MOST_NAMED = 8

EFFECTS = {
    "timestamps": "pairs each picture and action by number although the clock says that they belong elsewhere",
    "index": "reads the frames in the order of the file although their numbers say another one",
    "tasks": "tells the policy a task that may not be the one that is shown",
}


def check_structure(subject: Subject) -> Iterator[Finding]:
    """Yield what is found about files, episodes and clocks."""
    dataset = subject.dataset
    yield ok(
        "structure.set",
        f"LeRobot {dataset.version}, {len(subject.episodes)} of {dataset.num_episodes} episodes, "
        f"{dataset.num_frames:,} frames at {dataset.fps:g} Hz, {len(dataset.camera_keys)} cameras",
    )
    yield from _passed_over(subject)
    yield from _late_clocks(subject)
    yield from _totals(subject)
    yield from check_stored_statistics(subject)
    yield from _columns(subject)
    yield from _duplicates(subject)
    yield from _short_episodes(subject)
    yield from _leftovers(subject)
    yield from (note("structure.oddity", told) for told in dataset.notes if LATE_START not in told)  # told above


def named(numbers: Sequence[int]) -> str:
    """Return numbers of episodes as words: the first of them, and how many more."""
    told = ", ".join(map(str, numbers[:MOST_NAMED]))
    return told if len(numbers) <= MOST_NAMED else f"{told} and {len(numbers) - MOST_NAMED} more"


def _passed_over(subject: Subject) -> Iterator[Finding]:
    """Yield an error for each kind of fault that would have refused the set, with the episodes that have it."""
    used = set(subject.episodes)
    for name, word in ALLOWANCE_OF.items():
        faults = [passed for passed in subject.dataset.passed if passed.check == word and passed.episode in used]
        if faults:
            first, episodes = faults[0].fault, [passed.episode for passed in faults]
            told = "; ".join([first.problem, f"wanted: {first.wanted}", f"found: {first.found}"])
            yield error(
                name,
                f"{len(episodes)} of {len(used)} episodes ({named(episodes)}); the first: {told}",
                EFFECTS[word],
                first.remedy,
                {"episodes": episodes},
            )


def _late_clocks(subject: Subject) -> Iterator[Finding]:
    dataset = subject.dataset
    times = dataset.timestamps()
    starts = {number: float(times[dataset.episodes[number].start]) for number in subject.episodes}
    late = {number: start for number, start in starts.items() if abs(start) > CLOCK_TOLERANCE}
    if late:
        yield note(
            "structure.late_start",
            f"{len(late)} of {len(starts)} episodes {LATE_START} (the first: {min(late)}, at "
            f"{late[min(late)]:.4g} s); pictures are matched by number",
            numbers={"episodes": sorted(late), "start_s": late[min(late)]},
        )


def _totals(subject: Subject) -> Iterator[Finding]:
    """Compare the totals of info.json that nothing else depends on."""
    dataset = subject.dataset
    info = read_notes(dataset.root / "meta" / "info.json")
    videos = [name for name in dataset.camera_keys if is_video(dataset.features[name])]
    counted = {"total_tasks": len(dataset.tasks)}
    if dataset.version != "v3.0":  # there the files are not one for each episode
        every = info.get("features")
        dropped = [name for name in dataset.dropped_cameras if isinstance(every, dict) and name in every]
        counted["total_videos"] = (len(videos) + len(dropped)) * dataset.num_episodes
        size = info.get("chunks_size")
        chunk = size if isinstance(size, int) and size > 0 else 1000
        counted["total_chunks"] = -(-dataset.num_episodes // chunk)
    wrong = {name: (info[name], count) for name, count in counted.items() if name in info and info[name] != count}
    if wrong:
        told = ", ".join(f"{name} {said} instead of {count}" for name, (said, count) in wrong.items())
        yield note(
            "structure.totals",
            f"meta/info.json counts wrongly: {told}",
            "is not changed by it; other tools may be",
            "pi05 check --fix writes a copy with true counts",
            {name: {"said": said, "counted": count} for name, (said, count) in wrong.items()},
        )


def _columns(subject: Subject) -> Iterator[Finding]:
    missing = [name for name in INDEX_COLUMNS if name not in subject.dataset.features]
    if missing:
        yield note(
            "structure.columns",
            f"the data set has no column {', '.join(missing)}, which LeRobot writes",
            "goes by the order of the rows and by the frame rate instead",
            numbers={"missing": missing},
        )


def _duplicates(subject: Subject) -> Iterator[Finding]:
    """Name copies, and pieces of the same recording."""
    copies = find_copies(subject.dataset, subject.episodes)
    if copies:
        further = sorted(copy.episode for copy in copies)
        told = "; ".join(map(str, copies[:MOST_NAMED])) + ("; …" if len(copies) > MOST_NAMED else "")
        yield warning(
            "structure.duplicates",
            f"{len(further)} episodes hold the recording of another one, number for number: {told}",
            "counts them several times, and measures itself on what it has trained on where one copy is held out",
            excluding(*further),
            {"pairs": [(copy.episode, copy.of, copy.share) for copy in copies], "episodes": further},
        )


def _short_episodes(subject: Subject) -> Iterator[Finding]:
    dataset = subject.dataset
    lengths = {number: dataset.episodes[number].length for number in subject.episodes}
    median = float(np.median(list(lengths.values())))
    limit = max(SHORT_FRAMES, SHORT_SHARE * median)
    short = {number: length for number, length in lengths.items() if length < limit}
    if short and median >= 2 * SHORT_FRAMES:
        yield warning(
            "structure.short_episodes",
            f"{len(short)} of {len(lengths)} episodes are shorter than {limit:.0f} frames, where the median has "
            f"{median:.0f}: {named(sorted(short))}; recordings that were broken off?",
            "learns to stop there: what follows a broken recording is padding",
            excluding(*sorted(short)),
            {"episodes": sorted(short), "lengths": [short[number] for number in sorted(short)], "median": median},
        )


def _leftovers(subject: Subject) -> Iterator[Finding]:
    """Name files that no episode of the list owns: an episode that was not saved, a copy over an older set."""
    dataset = subject.dataset
    listed = {path.resolve() for path in dataset.listed_files()}
    dropped = set(dataset.dropped_cameras)
    found = [
        path
        for folder, pattern in (("data", "*.parquet"), ("videos", "*.mp4"))
        for path in sorted((dataset.root / folder).rglob(pattern))
        if path.resolve() not in listed and not dropped & set(path.parts)
    ]
    pictures = dataset.root / "images"
    stored = any(not is_video(dataset.features[name]) for name in dataset.camera_keys)
    if pictures.is_dir() and not stored and any(pictures.rglob("*.png")):
        found.append(pictures)
    if found:
        yield note(
            "structure.leftovers",
            f"{len(found)} files or folders belong to no episode of the list, the first: "
            f"{_inside(found[0], dataset.root)}; a recording that was interrupted leaves such",
            "does not see them",
            "remove them, or record the episode again",
            {"files": [_inside(path, dataset.root) for path in found[:100]]},
        )


def _inside(path: Path, root: Path) -> str:
    return str(path.relative_to(root))
