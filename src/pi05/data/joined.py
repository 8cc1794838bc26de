"""A state that lies in several columns: an observation with the single columns becomes one with `observation.state`.

Names, sizes and order are those that the policy was trained with (`lerobot/vectors.py`); they are kept in its
checkpoint. Leaves out the check of the joined state (`requirements.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from pi05.data.lerobot.vectors import Column
from pi05.errors import DataError
from pi05.types import STATE


class ColumnFields(TypedDict):
    """A column as a checkpoint holds it."""

    name: str
    size: int


def columns_to_list(columns: Sequence[Column]) -> list[ColumnFields]:
    """Return columns as plain data, in order."""
    return [{"name": column.name, "size": column.size} for column in columns]


def columns_from_list(values: Sequence[ColumnFields] | None, dim: int) -> tuple[Column, ...]:
    """Return columns out of plain data. Raises DataError where they are some, and not `dim` numbers in all."""
    columns = tuple(Column(value["name"], value["size"]) for value in values or ())
    if columns and sum(column.size for column in columns) != dim:
        raise DataError(
            "the columns that the checkpoint names do not fit its statistics",
            wanted=f"{dim} numbers in all",
            found=describe_columns(columns),
            remedy="take the checkpoint's untouched files",
        )
    return columns


def describe_columns(columns: Sequence[Column]) -> str:
    """Return the columns with their sizes, for people."""
    return ", ".join(f"{column.name} ({column.size})" for column in columns)


def with_state(observation: Mapping[str, Any], columns: Sequence[Column]) -> Mapping[str, Any]:
    """Return an observation that has `observation.state` where it has the single columns, joined in their order.

    One that holds none of them is returned as it is. Raises DataError for a column that is missing, of another size, or
    contradicts an `observation.state` beside it.
    """
    there = [column for column in columns if column.name in observation]
    own = any(column.name == STATE for column in columns)
    if not there or (STATE in observation and not own and len(there) < len(columns)):
        return observation
    if own and STATE in observation and np.size(observation[STATE]) == sum(column.size for column in columns):
        return observation
    if len(there) < len(columns):
        missing = [column.name for column in columns if column not in there]
        raise DataError(
            f"the observation lacks {', '.join(missing)}, a part of the state",
            wanted=f"{describe_columns(columns)}; or all of them joined as {STATE}",
            found=", ".join(map(str, observation)),
            remedy="send every column that the policy was trained with, under its name",
        )
    joined = np.concatenate([_numbers(column, observation[column.name]) for column in columns])
    if STATE in observation and not own and not _same(observation[STATE], joined):
        raise DataError(
            f"the observation holds two states: {STATE}, and other numbers in {describe_columns(columns)}",
            wanted="one of them, or the same numbers in both",
            found=f"{str(observation[STATE])[:200]} and {str(joined)[:200]}",
            remedy=f"send the columns, or {STATE}",
        )
    return {**observation, STATE: joined}


def _numbers(column: Column, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise _wrong(column, str(error)) from error
    fits = [(column.size,), (1, column.size), *([()] if column.size == 1 else [])]
    if array.shape not in fits:
        raise _wrong(column, f"shape {array.shape}")
    return array.reshape(column.size)


def _wrong(column: Column, found: str) -> DataError:
    return DataError(
        f"{column.name}, a part of the state, is not what it was in training",
        wanted=f"{column.size} number{'s' * (column.size != 1)}",
        found=found,
        remedy=f"send {column.name} in the shape and the units of the training data",
    )


def _same(given: Any, joined: np.ndarray) -> bool:
    try:
        state = np.asarray(given, np.float32).reshape(-1)
    except (TypeError, ValueError):
        return False
    return state.shape == joined.shape and np.array_equal(state, joined, equal_nan=True)
