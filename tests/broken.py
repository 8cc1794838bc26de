"""Break a data set from `fakes.write_dataset` in one place, and read the error that comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import CAMERAS, FakeDataset

from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError


def edit_info(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def replace(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def set_cell(path: Path, name: str, row: int, change: Callable[[list[float]], list[float] | None]) -> None:
    """Change the vector in one row of a column."""
    table = pq.read_table(path)
    rows = table[name].to_pylist()
    rows[row] = change(rows[row])
    pq.write_table(replace(table, name, pa.array(rows, pa.list_(pa.float32()))), path)


def data_file(fake: FakeDataset, number: int) -> Path:
    name = f"file-{number:03d}" if fake.version == "v3.0" else f"episode_{number:06d}"
    return fake.root / "data/chunk-000" / f"{name}.parquet"


def video_file(fake: FakeDataset, number: int, camera: str = CAMERAS[0]) -> Path:
    if fake.version == "v3.0":
        return fake.root / "videos" / camera / f"chunk-000/file-{number:03d}.mp4"
    return fake.root / "videos/chunk-000" / camera / f"episode_{number:06d}.mp4"


def refusal(root: Path, *parts: str, **options: Any) -> str:
    """Open the set, expect a DataError that holds all `parts` and a remedy, and return its text."""
    with pytest.raises(DataError) as caught:
        Dataset(root, **options)
    text = str(caught.value)
    assert re.search(r"to do: +\S", text)
    for part in parts:
        assert part in text, text
    return text


def refusal_of_frame(root: Path, i: int, *parts: str) -> None:
    """The same for a set that opens, and whose frame i cannot be read."""
    data = Dataset(root)
    with pytest.raises(DataError) as caught:
        data.image(CAMERAS[0], i)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert re.search(r"to do: +\S", str(caught.value))
    episode = max(e.index for e in data.episodes if e.start <= i)
    with pytest.raises(DataError, match=f"episode {episode}"):
        list(data.iter_frames(CAMERAS[0], episode))


def split_column(root: Path, name: str, parts: dict[str, int]) -> None:
    """Store a column of vectors as several, as openpi's DROID converter does; one of size 1 as plain numbers."""
    for path in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        values = np.array(table[name].to_pylist(), np.float32)
        table, first = table.drop_columns([name]), 0
        for part, size in parts.items():
            piece = values[:, first : first + size]
            column = pa.array(piece[:, 0]) if size == 1 else pa.array(list(piece), pa.list_(pa.float32()))
            table, first = table.append_column(part, column), first + size
        pq.write_table(table, path)

    def describe(info: dict[str, Any]) -> None:
        del info["features"][name]
        for part, size in parts.items():
            info["features"][part] = {"dtype": "float32", "shape": [size], "names": None}

    edit_info(root, describe)
