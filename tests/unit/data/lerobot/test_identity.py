"""What makes a data set another one for a run that is continued, and what does not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pi05.data.lerobot.identity import identify
from pi05.data.lerobot.reader import Dataset


def look(root: Path) -> dict[str, str]:
    return identify(Dataset(root), fakes.CAMERAS)


def changed(before: dict[str, str], root: Path) -> set[str]:
    after = look(root)
    return {name for name in before if before[name] != after[name]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fakes.write_dataset(tmp_path / "set", version="v2.1", episodes=(8, 7, 9)).root


def test_a_copy_is_the_same_data(root: Path, tmp_path: Path) -> None:
    before = look(root)
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    assert look(copy) == before


def test_other_words_for_a_task_are_other_data(root: Path) -> None:
    before = look(root)
    path = root / "meta/tasks.jsonl"
    path.write_text(path.read_text().replace("red block", "blue block"))
    assert changed(before, root) == {"tasks"}


def test_states_that_are_exchanged_between_frames_are_other_data(root: Path) -> None:
    before = look(root)
    path = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    states = table["observation.state"].to_pylist()
    states[2], states[5] = states[5], states[2]
    kind = table.schema.field("observation.state").type
    place = table.schema.get_field_index("observation.state")
    pq.write_table(table.set_column(place, "observation.state", pa.array(states, kind)), path)
    assert changed(before, root) == {"numbers"}


def test_exchanged_videos_are_other_data(root: Path) -> None:
    before = look(root)
    scene, wrist = (root / f"videos/chunk-000/{camera}/episode_000000.mp4" for camera in fakes.CAMERAS)
    kept = scene.read_bytes()
    scene.write_bytes(wrist.read_bytes())
    wrist.write_bytes(kept)
    assert changed(before, root) == {"pictures"}


def test_what_nobody_reads_is_no_other_data(root: Path) -> None:
    before = look(root)
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "robot_type": "another"}))
    assert look(root) == before


def test_pictures_beside_the_tables_are_seen_by_run_and_cache(tmp_path: Path) -> None:
    """White pictures in the place of the old ones: before, the cache went on with the old ones."""
    root = fakes.write_dataset(tmp_path / "set", episodes=(4, 3), storage="image").root
    table_path = next(root.glob("data/*/*.parquet"))
    table = pq.read_table(table_path)
    for camera in fakes.CAMERAS:
        cells = []
        for number, cell in enumerate(table[camera].to_pylist()):
            path = f"images/{camera}/{number}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(cell["bytes"])
            cells.append({"bytes": None, "path": path})
        place = table.schema.get_field_index(camera)
        table = table.set_column(place, camera, pa.array(cells, table.schema.field(camera).type))
    pq.write_table(table, table_path)
    before, fingerprint = look(root), Dataset(root).fingerprint()
    white = root / f"images/{fakes.CAMERAS[0]}/0.png"
    Image.new("RGB", (64, 48), "white").save(white)
    assert changed(before, root) == {"pictures"}
    assert Dataset(root).fingerprint() != fingerprint
