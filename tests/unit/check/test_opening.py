"""A broken set is opened without what is broken, and every fault is named in the reader's own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_info, edit_table, replace, set_cell, video_file
from fakes import CAMERAS, FakeDataset, write_dataset

from pi05.check.examine import examine
from pi05.check.opening import MOST_FAULTS, Opened, finding_of, open_despite_faults
from pi05.check.structure import check_structure
from pi05.check.subject import Subject
from pi05.data.lerobot.reader import ALLOWANCES, Dataset
from pi05.errors import ConfigError, DataError

LENGTHS = (12, 9, 7, 8, 6)


def opened(root: Path) -> Opened:
    def open_without(episodes: Sequence[int], cameras: Sequence[str]) -> Dataset:
        return Dataset(root, allow=ALLOWANCES, unused=episodes, drop_cameras=cameras)

    return open_despite_faults(open_without)


def names(found: Opened) -> list[str]:
    return [finding.name for finding in found.findings]


@pytest.fixture
def fake(tmp_path: Path) -> FakeDataset:
    return write_dataset(tmp_path / "set", "v2.1", episodes=LENGTHS)


def test_a_sound_set_opens_at_once(fake: FakeDataset) -> None:
    found = opened(fake.root)
    assert (found.findings, found.episodes, found.cameras) == ([], (), ())
    assert found.dataset is not None


def test_every_fault_is_named_and_the_rest_is_opened(fake: FakeDataset) -> None:
    """An interrupted recording, a missing video, a number that is none: three episodes of five."""
    file = data_file(fake, 0)
    file.write_bytes(file.read_bytes()[:-20])
    video_file(fake, 2).unlink()
    set_cell(data_file(fake, 4), "action", 3, lambda row: [row[0], float("nan"), row[2]])
    found = opened(fake.root)
    assert sorted(names(found)) == ["numbers.not_finite", "structure.files", "structure.interrupted"]
    assert found.episodes == (0, 2, 4)
    assert found.dataset is not None
    assert found.dataset.states()[12:21].any()
    not_finite = next(finding for finding in found.findings if finding.name == "numbers.not_finite")
    assert "episode 4, frame 3, action action_1" in not_finite.text
    assert not_finite.numbers == {"episodes": [4], "frames": {"4": 1}}


def test_all_episodes_with_broken_numbers_are_named_at_once(fake: FakeDataset) -> None:
    for number in (1, 3):
        set_cell(data_file(fake, number), "observation.state", 2, lambda row: [float("inf"), *row[1:]])
    (finding,) = opened(fake.root).findings
    assert finding.numbers["episodes"] == [1, 3]
    assert "[1, 3]" in finding.remedy


def test_a_camera_without_videos_is_left_out(fake: FakeDataset) -> None:
    def add_ghost(info: dict) -> None:
        info["features"]["observation.images.ghost"] = dict(info["features"][CAMERAS[0]])

    edit_info(fake.root, add_ghost)
    found = opened(fake.root)
    assert names(found) == ["structure.camera"]
    assert found.cameras == ("observation.images.ghost",)
    assert found.dataset is not None
    assert found.dataset.camera_keys == list(CAMERAS)


def empty_first_task(fake: FakeDataset) -> None:
    path = fake.root / "meta" / "tasks.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["task"] = ""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


BREAKS: dict[str, Callable[[FakeDataset], Any]] = {
    "structure.rows": lambda fake: edit_table(data_file(fake, 1), lambda table: table.slice(0, 7)),
    "structure.columns": lambda fake: edit_table(data_file(fake, 1), lambda table: table.drop_columns(["action"])),
    "structure.episodes": lambda fake: edit_info(fake.root, lambda info: info.update(total_frames=999)),
    "structure.contents": lambda fake: edit_info(fake.root, lambda info: info.update(fps="fast")),
    "structure.task_list": lambda fake: edit_table(
        data_file(fake, 1), lambda table: replace(table, "task_index", pa.array([77] * 9))
    ),
    "language.empty": empty_first_task,
    "numbers.values": lambda fake: set_cell(data_file(fake, 1), "action", 3, lambda row: None),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_fault_of_the_reader_has_a_name(fake: FakeDataset, name: str) -> None:
    BREAKS[name](fake)
    found = opened(fake.root)
    assert set(names(found)) == {name}
    assert all(finding.status == "error" and finding.remedy for finding in found.findings)


def test_a_video_that_cannot_be_opened(fake: FakeDataset) -> None:
    """Such files do not keep the set from being opened; the family that reads their headers names them."""
    video_file(fake, 2).write_bytes(b"no video")
    dataset = opened(fake.root).dataset
    assert dataset is not None
    told = [finding for finding in examine(Subject(dataset=dataset, episodes=range(5))) if finding.status == "error"]
    assert "structure.video" in [finding.name for finding in told]


def test_a_bad_clock_does_not_hide_other_faults(fake: FakeDataset) -> None:
    for number in (0, 1, 2, 3, 4):
        edit_table(
            data_file(fake, number),
            lambda table: replace(table, "timestamp", pa.array(1.1 * np.asarray(table["timestamp"]), pa.float32())),
        )
    edit_table(data_file(fake, 3), lambda table: replace(table, "frame_index", pa.array(range(5, 13))))
    set_cell(data_file(fake, 4), "action", 3, lambda row: [row[0], float("nan"), row[2]])
    found = opened(fake.root)
    assert names(found) == ["numbers.not_finite"]
    assert found.dataset is not None
    told = {f.name: f for f in check_structure(Subject(dataset=found.dataset, episodes=[0, 1, 2, 3]))}
    assert told["structure.clock"].numbers == {"episodes": [0, 1, 2, 3]}
    assert told["structure.index"].numbers == {"episodes": [3]}
    assert "--allow='[timestamps]'" in told["structure.clock"].remedy


def test_a_set_without_its_list_of_episodes_cannot_be_looked_at(fake: FakeDataset) -> None:
    (fake.root / "meta" / "episodes.jsonl").unlink()
    found = opened(fake.root)
    assert found.dataset is None
    assert names(found) == ["structure.files"]
    assert "episodes.jsonl" in found.findings[0].text
    assert "download" in found.findings[0].remedy


def test_a_set_in_which_everything_is_broken_is_given_up() -> None:
    asked = []

    def refuse(episodes: Sequence[int], cameras: Sequence[str]) -> Dataset:
        asked.append(len(episodes))
        raise DataError("broken", remedy="mend", episodes=[len(episodes)])

    found = open_despite_faults(refuse)
    assert found.dataset is None
    assert asked == list(range(MOST_FAULTS + 1))


def test_any_refusal_becomes_a_finding_of_its_family() -> None:
    found = finding_of(ConfigError("two of them", wanted="one", remedy="drop one"), "recipe")
    assert (found.name, found.status, found.text) == ("recipe.refused", "error", "two of them; wanted: one")
