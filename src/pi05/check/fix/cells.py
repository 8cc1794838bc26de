"""Columns of parquet files as arrays, where a column may be broken in the rows of one episode and whole in others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def to_numpy(column: Any, size: int | None = None) -> np.ndarray:
    """Return the cells of a column as an array [rows, numbers].

    Raises ValueError for empty cells, lists of different lengths, what is no number, and other than `size` numbers.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    rows, each = len(array), 1
    while True:
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        if array.null_count:
            raise ValueError("an empty cell")
        kind = array.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            break
        lengths = pc.unique(pc.list_value_length(array)).to_pylist()
        if len(lengths) > 1:
            raise ValueError(f"lists of {lengths[0]} and of {lengths[1]} values")
        each *= lengths[0] if lengths else 1
        array = array.flatten()
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    if values.dtype.kind not in "fiub":
        raise ValueError(f"values of type {array.type}")
    if size is not None and rows and each != size:
        raise ValueError(f"{each} numbers in each row, not {size}")
    return values.reshape(rows, -1 if rows else each)


def holds_numbers(kind: pa.DataType) -> bool:
    """Return whether a column may hold numbers: one, or lists of them, in each row."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def like(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return one number per row as a column of type `kind`: a number, or a list of one number."""
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(like(values, kind.value_type), 1)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.array([[value] for value in values.tolist()], kind)
    return pa.array(values).cast(kind)
