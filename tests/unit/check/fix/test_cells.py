"""Columns as arrays, and what makes one unreadable."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pi05.check.fix.cells import holds_numbers, like, to_numpy


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], [3, 4]], pa.list_(pa.float32())),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
        pa.array([[[1], [2]], [[3], [4]]], pa.list_(pa.list_(pa.int64()))),
        pa.chunked_array([pa.array([[1, 2]]), pa.array([[3, 4]])]),
    ],
)
def test_vectors(column: pa.Array) -> None:
    np.testing.assert_array_equal(to_numpy(column, 2), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(to_numpy(column.slice(1, 1)), [[3, 4]])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([1.0, None]), "an empty cell"),
        (pa.array([[1.0], None]), "an empty cell"),
        (pa.array([[1.0, None]]), "an empty cell"),
        (pa.array([[1.0], [1.0, 2.0]]), "lists of 1 and of 2"),
        (pa.array([[1.0, 2.0]]), "2 numbers in each row, not 3"),
        (pa.array(["a"]), "type string"),
    ],
)
def test_what_is_no_column_of_numbers(column: pa.Array, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_numpy(column, 3)


@pytest.mark.parametrize("kind", [pa.int32(), pa.float64(), pa.list_(pa.int64()), pa.list_(pa.float32(), 1)])
def test_a_column_keeps_its_type(kind: pa.DataType) -> None:
    column = like(np.arange(4), kind)
    assert column.type == kind
    assert holds_numbers(kind)
    np.testing.assert_array_equal(to_numpy(column, 1)[:, 0], np.arange(4))


def test_what_holds_no_numbers() -> None:
    assert not holds_numbers(pa.string())
    assert not holds_numbers(pa.list_(pa.struct([("bytes", pa.binary())])))
