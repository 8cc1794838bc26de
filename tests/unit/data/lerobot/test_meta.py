"""Metadata and lists of files that are broken: each error names the file, the episode where there is one, a remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from broken import edit_info, edit_table, refusal, replace
from fakes import CAMERAS, FakeDataset

from pi05.data.lerobot.reader import Dataset

Spoil = Callable[[FakeDataset], Any]
INFO, EPISODES = "meta/info.json", "meta/episodes.jsonl"
EPISODES_V3 = "meta/episodes/chunk-000/file-000.parquet"


def info(**values: Any) -> Spoil:
    return lambda fake: edit_info(fake.root, lambda found: found.update(values))


def no_feature(name: str) -> Spoil:
    return lambda fake: edit_info(fake.root, lambda found: found["features"].pop(name))


def gone(path: str) -> Spoil:
    return lambda fake: (fake.root / path).unlink()


def episodes(change: Callable[[list[str]], list[str]]) -> Spoil:
    """Return a change of the lines of the list of episodes."""

    def spoil(fake: FakeDataset) -> None:
        path = fake.root / EPISODES
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return spoil


SPOILED: dict[str, tuple[Spoil, list[str]]] = {
    "no info": (gone(INFO), [INFO, "no such file"]),
    "no action column": (no_feature("action"), ["no action column", INFO, "action or actions", "every episode"]),
    "no state column": (no_feature("observation.state"), ["no state column", INFO, "observation.state or state"]),
    "no task list": (gone("meta/tasks.jsonl"), ["task list", "meta/tasks.jsonl", "no such file"]),
    "no episode list": (episodes(lambda lines: []), ["episode list", EPISODES, "0 bytes"]),
    "a broken line": (episodes(lambda lines: [*lines, '{"episode_index": 3, "len']), [EPISODES, "line 4"]),
    "a line without length": (episodes(lambda lines: ['{"episode_index": 0}\n']), [EPISODES, "line 1 has no length"]),
    "a gap in the list": (
        episodes(lambda lines: [lines[0], lines[2]]),
        ["at episode 1", EPISODES, "episode 2 in its place"],
    ),
    "fewer episodes than info says": (
        episodes(lambda lines: lines[:2]),
        ["info.json", "total_episodes", "3 (info.json)", "last episode is 1"],
    ),
    "fewer frames than info says": (
        info(total_frames=30),
        ["info.json", "total_frames", "30 (info.json)", "28 in the list"],
    ),
    "a path with an unknown part": (info(data_path="data/{part}.parquet"), [INFO, "{part}"]),
}
SPOILED_V3: dict[str, tuple[Spoil, list[str]]] = {
    "no task list": (gone("meta/tasks.parquet"), ["task list", "meta/tasks.parquet", "no such file"]),
    "no episode list": (
        lambda fake: shutil.rmtree(fake.root / "meta/episodes"),
        ["list of episodes", "meta/episodes", "no such file"],
    ),
    "a list without a column": (
        lambda fake: edit_table(fake.root / EPISODES_V3, lambda t: t.drop_columns(["dataset_from_index"])),
        [EPISODES_V3, "dataset_from_index"],
    ),
    "frames out of place": (
        lambda fake: edit_table(
            fake.root / EPISODES_V3, lambda t: replace(t, "dataset_from_index", pa.array([0, 13, 21]))
        ),
        ["at episode 1", EPISODES_V3, "first frame 12", "first frame 13"],
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_broken_metadata(fake: FakeDataset, name: str) -> None:
    spoil, parts = SPOILED[name]
    spoil(fake)
    refusal(fake.root, *parts)


@pytest.mark.parametrize("name", SPOILED_V3)
def test_broken_metadata_v3(fake_v3: FakeDataset, name: str) -> None:
    spoil, parts = SPOILED_V3[name]
    spoil(fake_v3)
    refusal(fake_v3.root, *parts)


def test_no_folder(tmp_path: Path) -> None:
    refusal(tmp_path / "nowhere", "nowhere", "no such folder", INFO)


@pytest.mark.parametrize("content", ["{", "[1]", '{"codebase_version": "v2.1", "fps": 10}'])
def test_unreadable_info(fake: FakeDataset, content: str) -> None:
    (fake.root / INFO).write_text(content)
    refusal(fake.root, INFO)


@pytest.mark.parametrize("version", ["v1.6", "v4.0", None])
def test_unknown_version(fake: FakeDataset, version: str | None) -> None:
    info(codebase_version=version)(fake)
    refusal(fake.root, INFO, repr(version), "v2.0, v2.1, v3.0")


@pytest.mark.parametrize("fps", [0, -5, None, "10", float("nan"), True])
def test_impossible_fps(fake: FakeDataset, fps: object) -> None:
    info(fps=fps)(fake)
    refusal(fake.root, INFO, "fps")


def test_options_that_name_nothing(fake: FakeDataset) -> None:
    refusal(fake.root, "front", *CAMERAS, drop_cameras=["front"])
    refusal(fake.root, "timestamps, index", "everything", allow=["everything"])


@pytest.mark.parametrize("key", ["video.is_depth_map", "is_depth_map"])
def test_a_depth_camera(fake: FakeDataset, key: str) -> None:
    edit_info(fake.root, lambda found: found["features"][CAMERAS[1]].update(info={key: True}))
    refusal(fake.root, "depth map", CAMERAS[1], f"--drop_cameras='[{CAMERAS[1]}]'")
    Dataset(fake.root, drop_cameras=[CAMERAS[1]])
