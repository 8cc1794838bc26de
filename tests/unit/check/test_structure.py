"""Files, episodes and clocks: each finding on a set that has it; a sound one has none."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_info, edit_table, replace
from fakes import FakeDataset, write_dataset
from robot_sets import GHOST, real_set

from pi05.check.structure import check_structure, named
from pi05.check.subject import Subject
from pi05.data.lerobot.reader import ALLOWANCES, Dataset
from pi05.finding import Finding


def found(root: Path, episodes: Sequence[int] | None = None, **options: Any) -> dict[str, Finding]:
    dataset = Dataset(root, allow=ALLOWANCES, **options)
    used = list(range(dataset.num_episodes) if episodes is None else episodes)
    return {finding.name: finding for finding in check_structure(Subject(dataset=dataset, episodes=used))}


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_a_sound_set_has_nothing_but_its_size(tmp_path: Path, version: str) -> None:
    named_ = found(write_dataset(tmp_path, version).root)
    assert set(named_) == {"structure.set"}
    assert "3 of 3 episodes, 28 frames at 10 Hz, 2 cameras" in named_["structure.set"].text


def test_totals_that_nothing_depends_on(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1")
    edit_info(fake.root, lambda info: info.update(total_tasks=9, total_videos=2, total_chunks=0))
    told = found(fake.root)["structure.totals"]
    assert told.status == "note"
    assert told.numbers["total_videos"] == {"said": 2, "counted": 6}
    assert told.numbers["total_chunks"] == {"said": 0, "counted": 1}


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1")
    for number in range(3):
        edit_table(data_file(fake, number), lambda table: table.drop_columns(["frame_index"]))
    edit_info(fake.root, lambda info: info["features"].pop("frame_index"))
    assert found(fake.root)["structure.columns"].numbers == {"missing": ["frame_index"]}


def copy_numbers(fake: FakeDataset, source: int, target: int) -> None:
    """Write the state and action of one episode into another of the same length."""
    values = pq.read_table(data_file(fake, source))
    edit_table(
        data_file(fake, target),
        lambda table: table.set_column(table.column_names.index("action"), "action", values["action"]).set_column(
            table.column_names.index("observation.state"), "observation.state", values["observation.state"]
        ),
    )


def test_duplicate_episodes(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1", episodes=(9, 8, 9, 9))
    assert "structure.duplicates" not in found(fake.root)
    copy_numbers(fake, 0, 3)
    told = found(fake.root)["structure.duplicates"]
    assert (told.status, told.numbers) == ("warning", {"pairs": [(3, 0, 1.0)], "episodes": [3]})
    assert "'[3]'" in told.remedy
    assert "structure.duplicates" not in found(fake.root, [0, 1, 2])


def test_recordings_that_were_broken_off(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1", episodes=(60, 55, 3, 58))
    told = found(fake.root)["structure.short_episodes"]
    assert (told.status, told.numbers["episodes"], told.numbers["lengths"]) == ("warning", [2], [3])
    sound = write_dataset(tmp_path / "sound", "v2.1", episodes=(60, 25, 58))
    assert "structure.short_episodes" not in found(sound.root)


def test_files_that_no_episode_owns(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1")
    shutil.copy(data_file(fake, 0), data_file(fake, 7))
    pictures = fake.root / "images" / "cam" / "episode_000007"
    pictures.mkdir(parents=True)
    (pictures / "frame_000000.png").write_bytes(b"x")
    told = found(fake.root)["structure.leftovers"]
    assert told.numbers["files"] == ["data/chunk-000/episode_000007.parquet", "images"]


def test_a_real_set_with_the_defects_that_its_source_publishes() -> None:
    """GR1's SOURCE.txt; the camera without files, 44 dimensions and constant ones: `e2e/test_check.py`."""
    dataset = real_set("gr1_sim_v20_5ep", drop_cameras=[GHOST])
    findings = list(check_structure(Subject(dataset=dataset, episodes=range(5))))
    told = {finding.name: finding for finding in findings}
    assert told["structure.late_start"].numbers["start_s"] == pytest.approx(0.05)
    assert set(told["structure.totals"].numbers) == {"total_videos", "total_chunks"}
    assert told["structure.columns"].numbers == {"missing": ["frame_index"]}
    oddities = " ".join(finding.text for finding in findings if finding.name == "structure.oddity")
    assert "path templates" in oddities
    assert "0:100" in oddities
    assert not any(finding.to_mend for finding in findings)
    assert np.isfinite(dataset.timestamps()).all()


def test_frames_that_show_another_task_than_the_list(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1", episodes=(9, 8, 7))
    numbers = [pq.read_table(data_file(fake, episode))["task_index"][0].as_py() for episode in range(3)]
    other = next(number for number in numbers if number != numbers[1])
    edit_table(data_file(fake, 1), lambda table: replace(table, "task_index", pa.array([other] * 8)))
    told = found(fake.root)["structure.tasks"]
    assert (told.status, told.numbers) == ("error", {"episodes": [1]})


def test_clocks_that_start_late(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1")
    for number in range(3):
        edit_table(
            data_file(fake, number),
            lambda table: replace(table, "timestamp", pa.array(np.asarray(table["timestamp"]) + np.float32(0.1))),
        )
    told = found(fake.root)["structure.late_start"]
    assert (told.status, told.numbers["episodes"]) == ("note", [0, 1, 2])
    assert told.numbers["start_s"] == pytest.approx(0.1)


def test_splits_that_name_more_episodes_than_there_are(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1")
    edit_info(fake.root, lambda info: info.update(splits={"train": "0:100"}))
    told = found(fake.root)["structure.oddity"]
    assert told.status == "note"
    assert "0:100" in told.text


def test_numbers_of_episodes_are_told_up_to_eight() -> None:
    assert named([1, 2]) == "1, 2"
    assert named(list(range(20))) == "0, 1, 2, 3, 4, 5, 6, 7 and 12 more"
