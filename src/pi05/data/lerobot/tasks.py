"""The task list of a data set: which text each task number means. It becomes the prompt, so nothing is guessed.

v2.x has `meta/tasks.jsonl`; v3.0 has `meta/tasks.parquet`, a pandas table whose index holds the texts (LeRobot's way)
or whose column `task` does. Which frame shows which task is the column `task_index`, compared here with the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pi05.data.lerobot.columns import Table
from pi05.data.lerobot.files import (
    DOWNLOAD_AGAIN,
    excluding,
    read_json_lines,
    read_parquet,
    whole_number,
    wrong_content,
)
from pi05.data.lerobot.layout import DatasetLayout, EpisodeFiles
from pi05.errors import DataError
from pi05.files import parse_json

_WHAT = "task list"


def read_task_lines(path: Path) -> dict[int, str]:
    """Read `tasks.jsonl`. Raises DataError for a number or a text that is none, and for a number with two texts."""
    rows = read_json_lines(path, _WHAT, ("task_index", "task"))
    return _collect(path, ((row["task_index"], row["task"]) for row in rows))


def read_task_table(path: Path) -> dict[int, str]:
    """Read `tasks.parquet`, with the same refusals; also where it is not clear which column holds the texts."""
    table = read_parquet(path, _WHAT)
    name = _text_column(path, table)
    try:
        numbers, texts = table["task_index"].to_pylist(), table[name].to_pylist()
    except UnicodeDecodeError as error:
        raise wrong_content(
            f"a text in the {_WHAT} is not UTF-8: {path}",
            wanted=f"column {name} in UTF-8",
            found=f"{error.reason} at byte {error.start} of {error.object!r}",
            remedy="write the table anew with texts in UTF-8",
        ) from error
    return _collect(path, zip(numbers, texts, strict=True))


def _text_column(path: Path, table: pa.Table) -> str:
    """Return the pandas index where that holds texts, as LeRobot reads it; else `task`, else the only text column."""
    texts = [name for name in table.column_names if _is_text(table.schema.field(name).type)]
    named = [name for name in (*_pandas_index(table), "task") if name in texts]
    if "task_index" in table.column_names and (named or len(texts) == 1):
        return (named or texts)[0]
    kinds = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    raise wrong_content(
        f"the {_WHAT} does not tell the tasks: {path}",
        wanted="task_index (whole numbers) and task (text), or the text as the index of a pandas table",
        found=f"columns {kinds}",
        remedy="write the table with these two columns",
    )


def _pandas_index(table: pa.Table) -> list[str]:
    """Return the index columns that pandas noted; none where the note is none that pandas writes."""
    note = (table.schema.metadata or {}).get(b"pandas", b"{}")
    try:
        values = parse_json(note.decode())
    except ValueError:
        return []
    index = values.get("index_columns") if isinstance(values, dict) else None
    return [name for name in index if isinstance(name, str)] if isinstance(index, list) else []


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _collect(path: Path, rows: Iterable[tuple[Any, Any]]) -> dict[int, str]:
    tasks: dict[int, str] = {}
    for place, (number, text) in enumerate(rows, start=1):
        index = whole_number(number)
        if index is None or index < 0:
            raise _wrong_row(path, place, "a whole number from 0 up as task_index", repr(number))
        if not isinstance(text, str):
            raise _wrong_row(path, place, f"the instruction of task {index} as text", repr(text))
        if tasks.setdefault(index, text) != text:
            raise _wrong_row(path, place, f"one text for task {index}", f"{tasks[index]!r} and {text!r}")
    return tasks


def _wrong_row(path: Path, place: int, wanted: str, found: str) -> Exception:
    return wrong_content(
        f"the {_WHAT} is wrong in row {place}: {path}",
        wanted=wanted,
        found=found,
        remedy=f"correct that row of {path.name}; its text is what the policy is told to do",
    )


def tasks_of_frames(
    table: Table, episode: EpisodeFiles, layout: DatasetLayout, column: np.ndarray | None
) -> np.ndarray:
    """Return the task numbers of an episode's frames, each of them in the task list."""
    if column is None:
        numbers = [number for number, task in layout.tasks.items() if task in episode.tasks]
        if len(numbers) != 1:
            raise DataError(
                f"which task episode {episode.index} shows is not known: {table.path}",
                wanted="a column task_index, or one task in the episode list",
                found=f"no such column, and the tasks {list(episode.tasks)}",
                remedy="add the column task_index to the data files",
            )
        return np.full(episode.length, numbers[0], np.int64)
    wrong = np.flatnonzero(~np.isin(column, list(layout.tasks)))
    if len(wrong):
        raise table.fault(
            "the task number is not in the task list",
            episode.first_row + int(wrong[0]),
            wanted=f"one of {sorted(layout.tasks)[:20]}",
            found=str(column[wrong[0]]),
            remedy=f"complete the task list in meta/; {DOWNLOAD_AGAIN}",
        )
    return column


def check_texts(episode: EpisodeFiles, layout: DatasetLayout, numbers: np.ndarray) -> None:
    """Raise DataError for a task of an episode's frames that says nothing."""
    for number in np.unique(numbers).tolist():
        if layout.tasks[number].replace("_", " ").strip():
            continue
        raise DataError(
            f"task {number}, which episode {episode.index} shows, has no text: {layout.meta_files[1]}",
            wanted="an instruction, which is what the policy is told to do",
            found=repr(layout.tasks[number]),
            remedy=f"write the instruction into the task list, or leave its episodes out: {excluding(episode.index)}",
            topic="empty_task",
            episodes=[episode.index],
        )


def tasks_differ(table: Table, episode: EpisodeFiles, layout: DatasetLayout, numbers: np.ndarray) -> bool:
    """Return whether the episode list words the tasks of an episode otherwise than the task list does.

    Raises DataError where it names another task of the list instead: then one of the two is wrong.
    """
    shown = {layout.tasks[number] for number in np.unique(numbers).tolist()}
    listed = set(episode.tasks)
    if not listed or shown <= listed:
        return False
    others = [task for task in episode.tasks if task in layout.tasks.values()]
    if others and not shown & listed:
        raise DataError(
            f"the episode list and the frames name different tasks for episode {episode.index}: {table.path}",
            wanted=f"{', '.join(map(repr, others))} (the episode list, {layout.meta_files[-1]})",
            found=f"{', '.join(map(repr, sorted(shown)))} (task_index of its frames)",
            remedy="find out which is right and correct the other; if the frames are right: --allow='[tasks]'",
        )
    return True
