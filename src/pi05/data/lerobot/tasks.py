"""The task list of a data set: which text each task number means. It becomes the prompt, so nothing is guessed.

v2.x has `meta/tasks.jsonl`; v3.0 has `meta/tasks.parquet`, a pandas table whose index holds the texts (LeRobot's way)
or whose column `task` does. Leaves out which frame shows which task (`index_columns.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pi05.data.lerobot.files import read_json_lines, read_parquet, whole_number, wrong_content

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
    index = (table.schema.pandas_metadata or {}).get("index_columns") or []
    named = [name for name in (*index, "task") if isinstance(name, str) and name in texts]
    if "task_index" in table.column_names and (named or len(texts) == 1):
        return (named or texts)[0]
    kinds = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    raise wrong_content(
        f"the {_WHAT} does not tell the tasks: {path}",
        wanted="task_index (whole numbers) and task (text), or the text as the index of a pandas table",
        found=f"columns {kinds}",
        remedy="write the table with these two columns",
    )


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
