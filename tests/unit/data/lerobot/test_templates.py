"""Path templates: plain fields inside the data set, and nothing else that Python's formatting or the paths could do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from broken import edit_info, refusal, refusal_of_frame
from fakes import CAMERAS, FakeDataset, read_frame_number, write_dataset

from pi05.data.lerobot.reader import Dataset
from pi05.data.lerobot.templates import fill, locate
from pi05.errors import DataError

ROOT, INFO = Path("/sets/cubes"), Path("/sets/cubes/meta/info.json")


@pytest.mark.parametrize("width", ["", ":d", ":03d", ":06", ":6d", ":020d"])
def test_numbers_may_have_a_width(width: str) -> None:
    path = fill(f"data/{{index{width}}}.parquet", ROOT, INFO, index=7)
    assert path == ROOT / "data" / (f"{{index{width}}}.parquet".format(index=7))


@pytest.mark.parametrize(
    "template",
    [
        "{index:>2000000000}",
        "{index:021d}",
        "{index:2000000000d}",
        "{index:,}",
        "{index:{camera}}",
        "{index.__class__}",
        "{index[0]}",
        "{index!r}",
        "{camera:>2000000000}",
        "{camera:30}",
        "{0}",
        "{}",
        "{other}",
        "{index",
        "}",
        None,
        7,
        ["{index}"],
        "x" * 5000,
        "{camera}" * 500,
        "a" * 300 + "{index}",
    ],
)
def test_anything_else_is_refused(template: object) -> None:
    with pytest.raises(DataError) as caught:
        fill(template, ROOT, INFO, index=1, camera="observation.images.top")
    assert str(INFO) in str(caught.value)
    assert "data_path or video_path" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "template",
    ["../{index}", "data/../../{index}", "/etc/{index}", "//host/{index}", "..", "", "a\\..\\{index}", "{camera}/x"],
)
def test_paths_out_of_the_data_set_are_refused(template: str) -> None:
    with pytest.raises(DataError, match="outside the data set"):
        fill(template, ROOT, INFO, index=1, camera="../../secrets")


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_data_sets_of_both_layouts_go_through_it(tmp_path: Path, version: str) -> None:
    root = write_dataset(tmp_path / "set", version, [3, 3]).root
    for key in ("data_path", "video_path"):
        before = json.loads((root / "meta/info.json").read_text())[key]
        for wrong, part in [
            (before.replace(":03d", ":>2000000000"), "2000000000"),
            ("../" + before, "outside the data set"),
            (str(root.absolute() / before), "outside the data set"),
            (None, "null"),
        ]:
            edit_info(root, lambda info, key=key, wrong=wrong: info.update({key: wrong}))
            refusal(root, part, "meta/info.json")
        edit_info(root, lambda info, key=key, before=before: info.update({key: before}))
    assert len(Dataset(root)) == 6


@pytest.mark.parametrize("layout", ["v2.1", "v3.0"])
def test_the_links_of_the_hubs_cache_are_no_way_out(tmp_path: Path, layout: str) -> None:
    root = write_dataset(tmp_path / "snapshots" / "abc", layout).root
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        shutil.move(path, blobs / str(number))
        up = Path(*[".."] * len(path.parent.relative_to(tmp_path).parts))
        path.symlink_to(up / "blobs" / str(number))
    data = Dataset(root)
    assert read_frame_number(data.image(CAMERAS[1], 15)) == (15, 1)
    assert data.states().shape == (28, 4)


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    """Stars in a camera's name would have matched other cameras' files, in time without end for many of them."""
    there = tmp_path / "videos/chunk-001/front/episode_000000.mp4"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"x")
    moved: set[str] = set()
    for name in ("*", "**", "fron?", "[f]ront"):
        path = tmp_path / f"videos/chunk-000/{name}/episode_000000.mp4"
        assert locate(path, moved) == path
    assert not moved
    assert locate(tmp_path / "videos/chunk-000/front/episode_000000.mp4", moved) == there
    assert moved == {"videos"}


def test_a_folder_whose_name_looks_like_an_address(fake: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would take `concat:…` and `http:…` for protocols; here they are files."""
    (fake.root / "concat:videos").mkdir()
    shutil.move(fake.root / "videos", fake.root / "concat:videos/videos")
    edit_info(fake.root, lambda info: info.update(video_path="concat:videos/" + info["video_path"]))
    monkeypatch.chdir(fake.root)
    assert read_frame_number(Dataset(".").image(CAMERAS[0], 5)) == (5, 0)


def test_a_playlist_is_no_video(fake: FakeDataset) -> None:
    """Playlists name other files, which FFmpeg would open."""
    folder = fake.root / "videos/chunk-000" / CAMERAS[0]
    shutil.move(folder / "episode_000001.mp4", folder / "other.mp4")
    (folder / "episode_000001.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    refusal_of_frame(fake.root, 15, "cannot be opened", "episode 1")
