"""Pictures in tables: in many row groups, and given by path."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_table, replace
from fakes import CAMERAS, read_frame_number, write_dataset

from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError


def test_pictures_in_many_row_groups(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v3.0", storage="image")
    pq.write_table(pq.read_table(data_file(fake, 0)), data_file(fake, 0), row_group_size=5)
    data = Dataset(fake.root)
    for i in [0, 4, 5, 20, 12, 13, 3, 27]:
        assert read_frame_number(data.image(CAMERAS[1], i)) == (i, 1)
    assert [read_frame_number(image)[0] for image in data.iter_frames(CAMERAS[0], 1)] == list(range(12, 21))


def test_pictures_given_by_path(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v2.0", storage="image", cameras=CAMERAS[:1])
    folder = fake.root / "images"
    folder.mkdir()

    def move(table: pa.Table) -> pa.Table:
        cells = table[CAMERAS[0]].to_pylist()
        first = table["index"][0].as_py()
        for k, cell in enumerate(cells):
            (folder / f"{first + k}.png").write_bytes(cell["bytes"])
        paths = [{"bytes": None, "path": f"images/{first + k}.png"} for k in range(len(cells))]
        return replace(table, CAMERAS[0], pa.array(paths, table[CAMERAS[0]].type))

    for episode in range(3):
        edit_table(data_file(fake, episode), move)
    assert read_frame_number(Dataset(fake.root).image(CAMERAS[0], 15)) == (15, 0)
    (folder / "15.png").unlink()
    with pytest.raises(DataError, match=r"(?s)episode 1, frame 3: .*episode_000001\.parquet.*images/15\.png"):
        Dataset(fake.root).image(CAMERAS[0], 15)
