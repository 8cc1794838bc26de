"""Of a data set only the chosen episodes' files travel, where its layout allows; the real reader opens what came."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest
from fake_hub import FakeHub, content
from fetching import no_sockets, use_home

from pi05 import Dataset
from pi05.data.wanted import needed_files
from pi05.errors import DataError

NAME = "HuggingFaceVLA/libero"


def publish(hub: FakeHub, folder: Path, version: str, **settings: object) -> dict[str, bytes]:
    fakes.write_dataset(folder, version=version, episodes=(5, 4, 6), **settings)  # type: ignore[arg-type]
    files = content(folder)
    hub.publish(f"datasets/{NAME}", files)
    return files


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_home(monkeypatch, tmp_path / "home")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_the_reader_gets_the_chosen_episodes(
    version: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        files = publish(hub, place / "data", version)
        data = Dataset(NAME, episodes=[1])
        there = {path for path in files if (data.root / path).is_file()}
        if version == "v2.1":
            assert {path for path in there if "episode_" in path} == {p for p in files if "episode_000001" in p}
        else:
            assert there == {path for path in files if "file-001" not in path}, "two episodes share a file"
        assert data.frame(5)["task"] in fakes.TASKS
        with no_sockets(monkeypatch):
            assert Dataset(NAME, episodes=[1]).root == data.root
        whole = Dataset(NAME)
        assert whole.num_frames == 15
        assert {path for path in files if (whole.root / path).is_file()} == set(files)
        fetched = [request.path for request in hub.asked("GET", "/resolve/")]
        assert len(fetched) == len(set(fetched)), "nothing travels twice"
    assert f"data set: {NAME} is {data.root}" in capsys.readouterr().err


def test_dropped_cameras_stay_away(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        publish(hub, place / "data", "v2.1")
        data = Dataset(NAME, drop_cameras=[fakes.CAMERAS[1]])
        assert not [path for path in content(data.root) if fakes.CAMERAS[1] in path]
        assert data.frame(0)[fakes.CAMERAS[0]].shape == (48, 64, 3)


def test_half_of_the_episodes_is_not_all_of_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        publish(hub, place / "data", "v2.1")
        Dataset(NAME, episodes=[1])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError) as caught:
        Dataset(NAME)
    assert "more files" in str(caught.value.found)
    assert "pi05 fetch libero" in caught.value.remedy


def test_a_file_in_another_chunk_folder_is_found(place: Path) -> None:
    fakes.write_dataset(place / "data", version="v2.1", episodes=(3, 3))
    names = sorted(content(place / "data"))
    moved = [name.replace("chunk-000/episode_000001", "chunk-001/episode_000001") for name in names]
    needed = needed_files([1])(place / "data", moved)
    assert needed
    assert set(needed) <= set(moved)
    assert any("chunk-001" in name for name in needed)


def test_pictures_beside_the_tables_come_along(place: Path) -> None:
    fakes.write_dataset(place / "data", version="v2.1", episodes=(3,))
    names = [*sorted(content(place / "data")), "images/front/episode_000000/frame_000000.png"]
    assert "images/front/episode_000000/frame_000000.png" in needed_files()(place / "data", names)
