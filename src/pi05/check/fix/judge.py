"""Is an episode whole, is it broken beyond repair, or can what is wrong with it be mended without guessing?

Mended are columns that say what is known anyway: numbers of frames, episodes and rows, and the clock where only its
column is wrong. An episode is broken where rows or pictures are missing or nobody knows which belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pi05.check.fix.cells import to_numpy
from pi05.check.fix.clips import ClipLooks
from pi05.check.fix.clock import judge_clock
from pi05.check.fix.source import Place, Source
from pi05.data.lerobot.files import read_parquet
from pi05.data.lerobot.footers import read_footer
from pi05.data.lerobot.layout import EpisodeFiles, is_camera
from pi05.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to become of an episode."""

    broken: str | None = None
    """Why it cannot be kept."""
    clock: str | None = None
    """What is wrong with its column of times, where that can be mended."""
    surplus: Mapping[str, int] = field(default_factory=dict)
    """By camera: frames of its video beyond its rows."""
    state: np.ndarray | None = None
    action: np.ndarray | None = None
    tasks: np.ndarray | None = None
    """Task number of each row; None where the set has no such column."""
    renumbered: tuple[str, ...] = ()
    """Columns frame_index and timestamp that are missing or wrong; the others follow from the episode's new place."""


def judge_all(source: Source, looks: ClipLooks) -> Iterator[tuple[EpisodeFiles, Place | str, Verdict]]:
    """Yield each episode with its rows and the verdict on it; one data file is in memory at a time."""
    by_table: dict[Path, list[EpisodeFiles]] = {}
    for episode in source.layout.episodes:
        place = source.places[episode.index]
        if isinstance(place, str):
            yield episode, place, Verdict(broken=place)
        else:
            by_table.setdefault(place.table, []).append(episode)
    for path, episodes in by_table.items():
        try:
            names = list(read_footer(path, episodes[0].index).kinds)
            lacking = _lacks_pictures(source, names)
            table = read_parquet(path, "data file", _needed(source, names))
        except DataError as error:
            reason = f"{error.problem} ({error.found})"
            yield from ((episode, reason, Verdict(broken=reason)) for episode in episodes)
            continue
        for episode in episodes:
            place = source.places[episode.index]
            if not isinstance(place, Place) or lacking is not None:
                yield episode, place, Verdict(broken=lacking)
                continue
            rows = table.slice(place.first, place.count)
            columns = {name: rows[name] for name in rows.column_names}
            yield episode, place, judge_episode(source, episode, columns, looks)


def judge_episode(source: Source, episode: EpisodeFiles, columns: Mapping[str, object], clips: ClipLooks) -> Verdict:
    """Judge one episode by its rows: `columns` are the arrow columns of its index, its state and its action."""
    try:
        values = {name: to_numpy(column) for name, column in columns.items()}
        state, action = join(source, columns)
    except ValueError as error:
        return Verdict(broken=f"a column cannot be read: {error}")
    except KeyError as error:
        return Verdict(broken=f"it has no column {error.args[0]}")
    count = len(state)
    if not count:
        return Verdict(broken="it has no rows")
    for what, array in (("state", state), ("action", action)):
        bad = np.flatnonzero(~np.isfinite(array).all(1))
        if len(bad):
            return Verdict(broken=f"the {what} of frame {bad[0]} is not a number, and of {len(bad) - 1} frames more")
    index = {name: values[name].reshape(-1) for name in ("timestamp", "frame_index", "task_index") if name in values}
    order, wrong_numbers = _judge_order(index, count)
    if order is not None:
        return Verdict(broken=order)
    surplus = {}
    for camera in source.cameras:
        fault = clips.fault(camera, episode, count)
        if fault is not None:
            return Verdict(broken=fault)
        if beyond := clips.surplus(camera, episode, count):
            surplus[camera] = beyond
    clock = judge_clock(index.get("timestamp"), source.layout.fps, state, action, pictures_match=not surplus)
    return Verdict(
        broken=clock.broken,
        clock=clock.mended,
        surplus=surplus,
        state=state,
        action=action,
        tasks=index.get("task_index"),
        renumbered=("frame_index",) if wrong_numbers else (),
    )


def join(source: Source, columns: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray]:
    """Return state and action of arrow columns. Raises ValueError where they are not whole, KeyError without them."""
    state, action = (
        vector.join({c.name: to_numpy(columns[c.name], c.size).astype(np.float32) for c in vector.columns})
        for vector in (source.state, source.action)
    )
    return state, action


def _judge_order(index: Mapping[str, np.ndarray], count: int) -> tuple[str | None, bool]:
    """Return why the rows are not one episode in order, and whether frame_index must be written anew.

    One of clock and frame numbers may be wrong; the other must then rise from row to row.
    """
    numbers, times = index.get("frame_index"), index.get("timestamp")
    rises = {name: bool((np.diff(column) > 0).all()) for name, column in index.items() if name != "task_index"}
    if rises and not any(rises.values()):
        return "its rows are not in order: neither its clock nor its frame numbers rise", False
    if numbers is None or (numbers == np.arange(count)).all():
        return None, False
    steps = np.diff(numbers)
    if rises["frame_index"] and (steps > 1).any():
        at = int(np.argmax(steps > 1))
        return f"rows are missing: frame {numbers[at + 1]} comes after frame {numbers[at]}", False
    if times is None and not rises["frame_index"]:
        return "its frame numbers do not rise, and it has no clock that would tell the order", False
    return None, True


def _needed(source: Source, there: list[str]) -> list[str]:
    """Return the columns of a data file that an episode is judged by."""
    index = [name for name in ("timestamp", "frame_index", "task_index") if name in there]
    return [*index, *(name for name in source.columns if name in there)]


def _lacks_pictures(source: Source, there: list[str]) -> str | None:
    """Return which columns of pictures a data file lacks, or None; those of numbers are missed when they are read."""
    features = source.layout.features
    pictures = [name for name in features if is_camera(features[name]) and name not in source.cameras]
    missing = [name for name in pictures if name not in there]
    return f"its data file has no column {', '.join(missing)}" if missing else None
