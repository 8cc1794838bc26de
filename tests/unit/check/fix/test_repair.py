"""A repaired copy: what is mended in each version, that pictures and numbers stay together, that the source stays."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_info, edit_table, refusal, replace, set_cell, video_file
from fakes import CAMERAS, TASKS, FakeDataset, read_frame_number, write_dataset, write_video
from full_disk import largest_file

import pi05.check.fix.repair as module
from pi05.check.fix.account import Account
from pi05.check.fix.repair import repair
from pi05.data.lerobot.feature_stats import number_stats
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError

VERSIONS = ("v2.0", "v2.1", "v3.0")


def hashes(root: Path) -> dict[str, str]:
    """Return the bytes of every file below a folder, as hashes."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def what(account: Account) -> set[str]:
    return {entry.what for entry in account.done}


def mended(fake: FakeDataset, out: Path, **options: Any) -> tuple[Account, Dataset]:
    """Repair a set, see that its bytes stayed and nothing lies beside the copy, and open the copy."""
    before = hashes(fake.root)
    account = repair(fake.root, out, **options)
    assert hashes(fake.root) == before
    assert not list(out.parent.glob(f".{out.name}*"))
    assert not (out / ".lock").exists()
    data = Dataset(out)
    assert data.version == fake.version
    return account, data


def same_frames(
    data: Dataset, fake: FakeDataset, kept: list[int], cut: dict[int, tuple[int, int]] | None = None
) -> None:
    """Compare numbers bit for bit, and every picture by the number that it shows, with the source's episodes `kept`."""
    frames: list[int] = []
    for number, episode in enumerate(kept):
        first, last = (cut or {}).get(episode, (0, 0))
        own = list(range(fake.starts[episode] + first, fake.starts[episode] + fake.lengths[episode] - last))
        assert data.episodes[number].length == len(own)
        for place, camera in enumerate(data.camera_keys):
            seen = [read_frame_number(image) for image in data.iter_frames(camera, number)]
            assert seen == [(frame, place) for frame in own]
        frames += own
    np.testing.assert_array_equal(data.states(), fake.states[frames])
    np.testing.assert_array_equal(data.actions(), fake.actions[frames])
    np.testing.assert_array_equal([data.task(i) for i in range(len(data))], [fake.task_of_frame[i] for i in frames])


@pytest.mark.parametrize("storage", ["video", "image"])
@pytest.mark.parametrize("version", VERSIONS)
class TestEveryVersion:
    def test_a_sound_set_comes_out_as_it_went_in(self, tmp_path: Path, version: str, storage: str) -> None:
        fake = write_dataset(tmp_path / "set", version, storage=storage)
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])
        assert what(account) <= {"statistics", "videos"}
        assert not account.left
        assert json.loads((tmp_path / "out/meta/repairs.json").read_text())["episodes"] == 3

    def test_index_columns_clock_and_totals(self, tmp_path: Path, version: str, storage: str) -> None:
        fake = write_dataset(tmp_path / "set", version, storage=storage)
        path = data_file(fake, 0)
        rows = pq.read_metadata(path).num_rows
        edit_table(path, lambda table: replace(table, "index", pa.array(np.arange(rows) + 5)))
        edit_table(path, lambda table: replace(table, "frame_index", pa.array(np.zeros(rows, np.int64))))
        jitter = np.random.default_rng(0).uniform(-0.01, 0.01, rows)
        times = np.concatenate([np.arange(n) / 10 for n in (12, 9)])[:rows] + 0.02 + jitter
        edit_table(path, lambda table: replace(table, "timestamp", pa.array(times.astype(np.float32))))
        edit_info(fake.root, lambda info: info.update(total_frames=99, total_episodes=4))
        refusal(fake.root)
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])
        assert {"clock", "numbers", "lists"} <= what(account)
        np.testing.assert_allclose([data.timestamp(i) for i in range(12)], np.arange(12) / 10, atol=1e-6)
        table = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "out/data").rglob("*.parquet"))])
        assert table["index"].to_pylist() == list(range(28))
        assert table["frame_index"].to_pylist() == [*range(12), *range(9), *range(7)]
        assert json.loads((tmp_path / "out/meta/info.json").read_text())["total_frames"] == 28

    def test_a_broken_episode_is_left_out(self, tmp_path: Path, version: str, storage: str) -> None:
        fake = write_dataset(tmp_path / "set", version, storage=storage)
        path, row = (data_file(fake, 0), 14) if version == "v3.0" else (data_file(fake, 1), 2)
        set_cell(path, "action", row, lambda cell: [float("nan"), *cell[1:]])
        with pytest.raises(DataError, match="not a number at episode 1"):
            Dataset(fake.root).actions()
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 2])
        assert account.source_numbers == (0, 2)
        assert [entry.episodes for entry in account.done if entry.what == "episodes"] == [(1,)]
        assert "action of frame 2" in account.done[0].text
        table = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "out/data").rglob("*.parquet"))])
        assert table["episode_index"].to_pylist() == [0] * 12 + [1] * 7
        stats = json.loads((tmp_path / "out/meta/stats.json").read_text()) if version != "v2.1" else {}
        true = number_stats(fake.actions[[*range(12), *range(21, 28)]])
        if stats:
            np.testing.assert_allclose(stats["action"]["mean"], true["mean"], rtol=1e-12)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_video_that_is_too_short_takes_its_episode_with_it(tmp_path: Path, version: str) -> None:
    fake = write_dataset(tmp_path / "set", version)
    path = video_file(fake, 1)  # of v3.0: the file of episode 2 alone
    write_video(path, [np.zeros((48, 64, 3), np.uint8)] * 5, 10)
    account, data = mended(fake, tmp_path / "out")
    same_frames(data, fake, [0, 1] if version == "v3.0" else [0, 2])
    assert any("5 pictures for" in entry.text for entry in account.done)


def test_surplus_frames_are_never_shifted(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v2.1")
    write_video(video_file(fake, 1), [np.full((48, 64, 3), k * 10, np.uint8) for k in range(12)], 10)
    account, data = mended(fake, tmp_path / "out")
    assert data.num_episodes == 3
    assert [(entry.what, entry.episodes) for entry in account.left] == [("videos", (1,))]
    assert (tmp_path / "out/videos/chunk-000" / CAMERAS[0] / "episode_000001.mp4").samefile(video_file(fake, 1))


class TestLists:
    @pytest.mark.parametrize("name", ["episodes.jsonl", "tasks.jsonl"])
    def test_a_lost_list_comes_from_the_frames(self, tmp_path: Path, name: str) -> None:
        fake = write_dataset(tmp_path / "set", "v2.1")
        (fake.root / "meta" / name).unlink()
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])
        assert any(name in entry.text for entry in account.done)

    def test_both_lists_lost_are_refused(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v2.1")
        for name in ("episodes.jsonl", "tasks.jsonl"):
            (fake.root / "meta" / name).unlink()
        with pytest.raises(DataError, match="task list"):
            repair(fake.root, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("version", VERSIONS)
    def test_wrong_lengths(self, tmp_path: Path, version: str) -> None:
        fake = write_dataset(tmp_path / "set", version, episodes_per_file=1)
        _edit_episodes(fake, 1, length=8)
        refusal(fake.root)
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])
        assert any(entry.what == "lists" and "8 frames; it has 9" in entry.text for entry in account.done)

    def test_a_pointer_to_another_data_file(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v3.0", episodes_per_file=1)
        _edit_episodes(fake, 1, **{"data/file_index": 2})
        refusal(fake.root)
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])
        assert any("pointed to other data files" in entry.text for entry in account.done)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_gap_in_the_numbers(self, tmp_path: Path, version: str) -> None:
        fake = write_dataset(tmp_path / "set", version)
        _drop_from_list(fake, 1)
        refusal(fake.root)
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 2])
        assert any("2 is now 1" in entry.text for entry in account.done)

    def test_a_ghost_camera_is_not_guessed_away(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v2.1")
        for number in range(3):
            video_file(fake, number).unlink()
        with pytest.raises(DataError, match="drop_cameras"):
            repair(fake.root, tmp_path / "out")
        repair(fake.root, tmp_path / "out", drop_cameras=[CAMERAS[0]])
        assert Dataset(tmp_path / "out").camera_keys == [CAMERAS[1]]


class TestTasks:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_other_spellings_become_one_task(self, tmp_path: Path, version: str) -> None:
        tasks = ("Pick_up the  cube.", "pick up the cube")
        fake = write_dataset(tmp_path / "set", version, tasks=tasks)
        account, data = mended(fake, tmp_path / "out")
        assert data.tasks == ["Pick_up the  cube."]  # that of 19 of 28 frames
        assert {data.task(i) for i in range(28)} == set(data.tasks)
        assert any(entry.what == "tasks" and "are one task" in entry.text for entry in account.done)
        assert not any("episode list" in entry.text for entry in account.done if entry.episodes == (0,))

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_number_that_the_list_lacks(self, tmp_path: Path, version: str) -> None:
        fake = write_dataset(tmp_path / "set", version)
        if version == "v3.0":
            path = fake.root / "meta/tasks.parquet"
            pq.write_table(pq.read_table(path).slice(0, 1), path)
        else:
            path = fake.root / "meta/tasks.jsonl"
            path.write_text(path.read_text().splitlines()[0] + "\n")
        refusal(fake.root, "not in the task list")
        account, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])
        assert any(TASKS[1] in entry.text for entry in account.done if entry.what == "tasks")

    @pytest.mark.parametrize("version", VERSIONS)
    def test_the_frames_are_right_about_the_episodes_task(self, tmp_path: Path, version: str) -> None:
        fake = write_dataset(tmp_path / "set", version)
        _edit_episodes(fake, 1, tasks=[TASKS[0]])
        refusal(fake.root, "different tasks")
        _, data = mended(fake, tmp_path / "out")
        same_frames(data, fake, [0, 1, 2])


class TestIdleEnds:
    @pytest.fixture
    def resting(self, tmp_path: Path) -> FakeDataset:
        return _rest(write_dataset(tmp_path / "set", "v3.0", [40, 30], storage="image", episodes_per_file=2))

    def test_rows_and_pictures_go_together(self, tmp_path: Path) -> None:
        fake = _rest(write_dataset(tmp_path / "set", "v3.0", [40, 30], episodes_per_file=2), still=True)
        account, data = mended(fake, tmp_path / "out")
        # 15 frames of rest at the start, 12 at the end, of which half a second (5) stays at 10 Hz
        assert [episode.length for episode in data.episodes] == [40 - 10 - 7, 30]
        frames = [*range(10, 33), *range(40, 70)]
        np.testing.assert_array_equal(data.states(), fake.states[frames])
        pictures, whole = list(data.iter_frames(CAMERAS[0], 0)), list(Dataset(fake.root).iter_frames(CAMERAS[0], 0))
        np.testing.assert_array_equal(pictures, whole[10:33])
        assert data.timestamp(0) == 0
        assert "idle" in what(account)
        rows = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()
        assert rows[0][f"videos/{CAMERAS[0]}/from_timestamp"] == pytest.approx(1.0)
        assert rows[0][f"videos/{CAMERAS[0]}/to_timestamp"] == pytest.approx(3.3)

    def test_what_moves_in_the_pictures_is_not_idle(self, tmp_path: Path, resting: FakeDataset) -> None:
        _, data = mended(resting, tmp_path / "out")
        assert [episode.length for episode in data.episodes] == [40, 30]

    def test_whole_videos_of_v2_stay_and_it_is_told(self, tmp_path: Path) -> None:
        fake = _rest(write_dataset(tmp_path / "set", "v2.1", [40, 30]), still=True)
        account, data = mended(fake, tmp_path / "out")
        assert [episode.length for episode in data.episodes] == [40, 30]
        assert [(entry.what, entry.episodes) for entry in account.left] == [("idle", (0,))]


class TestStatistics:
    def test_quantiles_of_other_data_are_replaced_and_told(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v3.0")
        true = {name: value.tolist() for name, value in number_stats(fake.actions).items()}
        (fake.root / "meta/stats.json").write_text(json.dumps({"action": {**true, "q99": [9.0, 9.0, 9.0]}}))
        account, _ = mended(fake, tmp_path / "out")
        text = next(entry.text for entry in account.done if entry.what == "statistics")
        assert "action: q99" in text
        assert "was 9" in text
        stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
        np.testing.assert_allclose(stats["action"]["q99"], np.quantile(fake.actions.astype(float), 0.99, axis=0))
        row = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()[1]
        np.testing.assert_allclose(row["stats/observation.state/max"], fake.states[12:21].max(0), rtol=1e-6)

    def test_v21_has_them_by_episode(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v2.1")
        mended(fake, tmp_path / "out")
        lines = (tmp_path / "out/meta/episodes_stats.jsonl").read_text().splitlines()
        stats = [json.loads(line)["stats"] for line in lines]
        np.testing.assert_allclose(stats[2]["action"]["mean"], fake.actions[21:].astype(float).mean(0))
        assert set(stats[0]["action"]) == {"min", "max", "mean", "std", "count"}


class TestNothingIsLeftHalfWritten:
    def test_a_full_disk(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v3.0", [200, 150], storage="image")
        with largest_file(20_000), pytest.raises(DataError, match=r"cannot write a repaired copy[\s\S]*File too large"):
            repair(fake.root, tmp_path / "out")
        assert os.listdir(tmp_path) == ["set"]

    def test_no_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = write_dataset(tmp_path / "set", "v2.1")
        monkeypatch.setattr(module, "copied_bytes", lambda plan, folder: 2**60)
        with pytest.raises(DataError, match="no room on the disk"):
            repair(fake.root, tmp_path / "out")
        assert os.listdir(tmp_path) == ["set"]

    def test_an_interruption(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v3.0")

        def press(doing: str, done: int, total: int) -> None:
            if doing == "writing tables" and done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            repair(fake.root, tmp_path / "out", progress=press)
        assert os.listdir(tmp_path) == ["set"]
        mended(fake, tmp_path / "out")

    def test_what_is_not_mended_is_refused_in_the_readers_words(self, tmp_path: Path) -> None:
        fake = write_dataset(tmp_path / "set", "v3.0")
        for number in range(2):  # a feature that the files do not have: the reader refuses it
            edit_table(data_file(fake, number), lambda table: table.drop_columns(["action"]))
        with pytest.raises(DataError, match=r"no episode of this data set can be kept[\s\S]*action"):
            repair(fake.root, tmp_path / "out")
        assert os.listdir(tmp_path) == ["set"]


def test_other_files_come_along_and_tables_of_episodes_only_while_their_numbers_hold(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v2.1")
    (fake.root / "README.md").write_text("a card")
    pq.write_table(pa.table({"episode_index": [0, 1, 2]}), fake.root / "pi05_replay.parquet")
    mended(fake, tmp_path / "whole")
    assert (tmp_path / "whole/pi05_replay.parquet").is_file()
    _drop_from_list(fake, 1)
    account, _ = mended(fake, tmp_path / "less")
    assert (tmp_path / "less/README.md").read_text() == "a card"
    assert not (tmp_path / "less/README.md").samefile(fake.root / "README.md")
    assert not (tmp_path / "less/pi05_replay.parquet").exists()
    assert any("pi05_replay.parquet" in entry.text for entry in account.left)


@pytest.mark.slow
def test_the_real_set_with_a_bad_clock(shared: Path, tmp_path: Path) -> None:
    broken, twin = (shared / "datasets" / name for name in ("cr5_v21_5ep_badclock", "cr5_v21_5ep"))
    account = repair(broken, tmp_path / "out")
    ours, theirs = Dataset(tmp_path / "out"), Dataset(twin)
    assert next(entry.episodes for entry in account.done if entry.what == "clock") == (0, 1, 2, 3, 4)
    np.testing.assert_array_equal(ours.states(), theirs.states())
    np.testing.assert_allclose([ours.timestamp(i) for i in range(530)], [theirs.timestamp(i) for i in range(530)])
    np.testing.assert_array_equal(
        ours.image("observation.images.top", 300), theirs.image("observation.images.top", 300)
    )


def _edit_episodes(fake: FakeDataset, episode: int, **values: Any) -> None:
    """Change what the episode list says of one episode."""
    if fake.version == "v3.0":
        path = fake.root / "meta/episodes/chunk-000/file-000.parquet"
        rows = pq.read_table(path).to_pylist()
        rows[episode] |= values
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    path = fake.root / "meta/episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[episode] |= values
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _drop_from_list(fake: FakeDataset, episode: int) -> None:
    if fake.version == "v3.0":
        path = fake.root / "meta/episodes/chunk-000/file-000.parquet"
        rows = pq.read_table(path).to_pylist()
        pq.write_table(pa.Table.from_pylist(rows[:episode] + rows[episode + 1 :]), path)
        return
    path = fake.root / "meta/episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:episode] + lines[episode + 1 :]) + "\n")


def _rest(fake: FakeDataset, *, still: bool = False) -> FakeDataset:
    """Let the first episode rest for 15 frames at its start and 12 at its end; `still`: its pictures, too."""
    length = fake.lengths[0]
    for values, name in ((fake.states, "observation.state"), (fake.actions, "action")):
        values[:15], values[length - 12 : length] = values[0], values[length - 1]
        for place in range(1 if fake.version == "v3.0" else len(fake.lengths)):
            start, count = (0, len(values)) if fake.version == "v3.0" else (fake.starts[place], fake.lengths[place])
            column = pa.array(list(values[start : start + count]), pa.list_(pa.float32()))
            edit_table(data_file(fake, place), lambda table, name=name, column=column: replace(table, name, column))
    if still:
        pictures = [np.full((48, 64, 3), 90 + 4 * min(max(k - 15, 0), 13), np.uint8) for k in range(sum(fake.lengths))]
        for camera in CAMERAS:
            own = pictures if fake.version == "v3.0" else pictures[:length]
            write_video(video_file(fake, 0, camera), own, 10)
    return fake
