"""The writer: what goes in comes out of the reader, and nothing half-written is ever left under the set's name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import numbered_image, read_frame_number
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import SCENE, WRIST, add, make_features

from pi05.data.lerobot.encoder import VideoEncoder
from pi05.data.lerobot.reader import Dataset
from pi05.data.lerobot.writer import DatasetWriter
from pi05.errors import DataError

SMALL_MEAN_TOLERANCE = 6.0
"""Mean error of a value of 255 that H.264 at `SMALL` may make on small pictures of random colours in large cells."""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    tasks=st.lists(st.text(min_size=1, max_size=12).filter(lambda t: t.isprintable()), min_size=1, max_size=3),
    size=st.sampled_from([16, 34, 48, 130]),
    dims=st.integers(1, 5),
    fps=st.sampled_from([1, 10, 30, 50, 60]),
    limit=st.sampled_from([0.0, 0.001, 100]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_goes_in_comes_out(
    lengths: list[int], tasks: list[str], size: int, dims: int, fps: int, limit: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    states, actions = (rng.normal(size=(2, total, dims)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    coarse = rng.integers(0, 255, (total, 4, 4, 3), dtype=np.uint8)
    cells = np.linspace(0, 3.999, size).astype(int)
    images = coarse[:, cells][:, :, cells]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        features = make_features(size, (SCENE,), dims)
        with DatasetWriter(root, fps, features, "robot", data_file_mb=limit, video_file_mb=limit) as writer:
            number = 0
            for episode, length in enumerate(lengths):
                for _ in range(length):
                    values = {"observation.state": states[number], "action": actions[number]}
                    writer.add_frame({SCENE: images[number]}, values)
                    number += 1
                writer.end_episode(tasks[episode % len(tasks)])
        data = Dataset(root)
        assert [e.length for e in data.episodes] == lengths
        assert [e.tasks for e in data.episodes] == [(tasks[e % len(tasks)],) for e in range(len(lengths))]
        assert data.fps == fps
        np.testing.assert_array_equal(data.states(), states)
        np.testing.assert_array_equal(data.actions(), actions)
        read = np.stack([image for e in data.episodes for image in data.iter_frames(SCENE, e.index)])
        error = np.abs(read.astype(int) - images)
        assert error.mean() < (SMALL_MEAN_TOLERANCE if size < 128 else 20), error.mean()
        last = data.frame(total - 1)
        np.testing.assert_array_equal(last[SCENE], read[-1])


def test_files_are_shared_up_to_their_limit(tmp_path: Path) -> None:
    for name, limit, files in (("one", 100, 1), ("many", 0, 5)):
        root = tmp_path / name
        with DatasetWriter(root, 10, make_features(), "r", data_file_mb=limit, video_file_mb=limit) as writer:
            for episode in range(5):
                add(writer, episode * 20, 20)
                writer.end_episode("go")
        assert len(list(root.glob("data/chunk-000/file-*.parquet"))) == files
        assert len(list(root.glob(f"videos/{WRIST}/chunk-000/file-*.mp4"))) == files
        data = Dataset(root)
        for i in (99, 0, 20, 59, 41):
            frame = data.frame(i)
            assert [read_frame_number(frame[c]) for c in (SCENE, WRIST)] == [(i, 0), (i, 1)]
            assert (frame["observation.state"][0], frame["action"][3]) == (i, -i)


def test_the_caller_may_use_its_arrays_again(tmp_path: Path) -> None:
    image, state = np.zeros((48, 48, 3), np.uint8), np.zeros(4, np.float32)
    with DatasetWriter(tmp_path / "set", 10, make_features(cameras=(SCENE,)), "r") as writer:
        for i in range(4):
            image[:], state[:] = numbered_image(i, 0, 48, 48), i
            writer.add_frame({SCENE: image}, {"observation.state": state, "action": state})
        writer.end_episode("go")
    data = Dataset(tmp_path / "set")
    assert [read_frame_number(image)[0] for image in data.iter_frames(SCENE, 0)] == [0, 1, 2, 3]
    assert data.states()[:, 0].tolist() == [0, 1, 2, 3]


def test_an_episode_can_be_thrown_away(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", 10, make_features(), "r") as writer:
        add(writer, 50, 4)
        writer.discard_episode()
        add(writer, 0, 3)
        writer.end_episode("keep")
        add(writer, 60, 4)
        writer.discard_episode()
    data = Dataset(tmp_path / "set")
    assert [read_frame_number(data.image(SCENE, i))[0] for i in range(data.num_frames)] == [0, 1, 2]


class TestNothingHalfWritten:
    def test_nothing_is_there_before_the_end(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path / "set", 10, make_features(), "r") as writer:
            add(writer, 0, 3)
            writer.end_episode("go")
            assert not (tmp_path / "set").exists()
        assert sorted(os.listdir(tmp_path)) == ["set"]

    def test_an_exception_leaves_nothing(self, tmp_path: Path) -> None:
        def collect() -> None:
            with DatasetWriter(tmp_path / "set", 10, make_features(), "r") as writer:
                add(writer, 0, 3)
                writer.end_episode("go")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            collect()
        assert os.listdir(tmp_path) == []

    @pytest.mark.process
    def test_a_killed_writer_leaves_nothing_in_the_way(self, tmp_path: Path) -> None:
        code = (
            f"import sys; sys.path[:0] = {sys.path!r}\n"
            "import os, signal\nfrom recordings import *\n"
            f"writer = DatasetWriter({str(tmp_path / 'set')!r}, 10, make_features(), 'r', video_file_mb=0)\n"
            "for k in range(3):\n    add(writer, k * 5, 5); writer.end_episode('go')\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert os.listdir(tmp_path) == ["set.partial"]
        with DatasetWriter(tmp_path / "set", 10, make_features(), "r") as writer:
            add(writer, 0, 3)
            writer.end_episode("go")
        assert Dataset(tmp_path / "set").num_frames == 3
        assert len(list((tmp_path / "set" / "videos" / SCENE).rglob("*.mp4"))) == 1

    def test_no_episode(self, tmp_path: Path) -> None:
        with (
            pytest.raises(DataError, match="no episode was recorded"),
            DatasetWriter(tmp_path / "set", 10, make_features(), "r"),
        ):
            pass
        assert os.listdir(tmp_path) == []

    def test_frames_without_an_end(self, tmp_path: Path) -> None:
        writer = DatasetWriter(tmp_path / "set", 10, make_features(), "r")
        add(writer, 0, 3)
        with pytest.raises(ValueError, match="3 frames belong to no episode"):
            writer.close()
        writer.end_episode("go")
        writer.close()
        assert Dataset(tmp_path / "set").num_frames == 3

    def test_an_existing_set_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "precious").touch()
        with pytest.raises(DataError, match="already something at"):
            DatasetWriter(tmp_path / "set", 10, make_features(), "r")
        assert (tmp_path / "set" / "precious").exists()

    def test_two_writers(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path / "set", 10, make_features(), "r") as writer:
            with pytest.raises(DataError, match="another process is writing"):
                DatasetWriter(tmp_path / "set", 10, make_features(), "r")
            add(writer, 0, 3)
            writer.end_episode("go")
        assert Dataset(tmp_path / "set").num_frames == 3

    @pytest.mark.process
    def test_a_disk_that_refuses(self, tmp_path: Path) -> None:
        # A limit on the size of a file stands in for a full disk: writing ends with an OSError all the same.
        code = (
            f"import sys; sys.path[:0] = {sys.path!r}\n"
            "import resource, signal\nfrom recordings import *\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
            f"with DatasetWriter({str(tmp_path / 'set')!r}, 10, make_features(), 'r') as writer:\n"
            "    for k in range(40):\n        add(writer, k * 50, 50); writer.end_episode('go')\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert "DataError: the data set " in ended.stderr, ended.stderr
        assert "B are free" in ended.stderr
        assert os.listdir(tmp_path) == []


class TestWrongUse:
    @pytest.fixture
    def writer(self, tmp_path: Path) -> Iterator[DatasetWriter]:
        writer = DatasetWriter(tmp_path / "set", 10, make_features(cameras=(SCENE,)), "r")
        yield writer
        writer.abort()

    values = {"observation.state": np.zeros(4), "action": np.zeros(4)}  # noqa: RUF012
    image = np.zeros((48, 48, 3), np.uint8)

    def test_other_cameras_or_values(self, writer: DatasetWriter) -> None:
        with pytest.raises(ValueError, match="cameras: wanted"):
            writer.add_frame({}, self.values)
        with pytest.raises(ValueError, match="values: wanted"):
            writer.add_frame({SCENE: self.image}, {"action": np.zeros(4)})

    def test_other_sizes(self, writer: DatasetWriter) -> None:
        with pytest.raises(ValueError, match=r"a picture of shape \(32, 48, 3\)"):
            writer.add_frame({SCENE: self.image[:32]}, self.values)
        with pytest.raises(ValueError, match="action: wanted 4 finite numbers"):
            writer.add_frame({SCENE: self.image}, self.values | {"action": np.zeros(3)})

    def test_a_value_that_is_not_finite(self, writer: DatasetWriter) -> None:
        with pytest.raises(ValueError, match="action: wanted 4 finite numbers"):
            writer.add_frame({SCENE: self.image}, self.values | {"action": np.array([0, 0, np.nan, 0])})

    def test_an_episode_without_frames_or_task(self, writer: DatasetWriter) -> None:
        with pytest.raises(ValueError, match="needs frames and a task"):
            writer.end_episode("go")
        writer.add_frame({SCENE: self.image}, self.values)
        with pytest.raises(ValueError, match="needs frames and a task"):
            writer.end_episode("")

    def test_features(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fps"):
            DatasetWriter(tmp_path / "set", 0, make_features(), "r")
        with pytest.raises(ValueError, match="index columns are added"):
            DatasetWriter(tmp_path / "set", 10, {"index": {"dtype": "int64", "shape": [1]}}, "r")
        with pytest.raises(ValueError, match="only vectors"):
            DatasetWriter(tmp_path / "set", 10, {"note": {"dtype": "string", "shape": [1]}}, "r")

    def test_odd_sides(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="even sides"):
            VideoEncoder(tmp_path / "video.mp4", 10, 241, 320)


def test_without_locks_nobody_is_thought_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that knows no locks a new set is written; what may be another's is not touched."""

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unknown)
    left(tmp_path / "other.partial")
    with pytest.raises(DataError, match="another process is writing"):
        DatasetWriter(tmp_path / "other", 10, make_features(), "arm")
    with DatasetWriter(tmp_path / "set", 10, make_features(), "arm") as writer:
        add(writer, 0, 2)
        writer.end_episode("a task")
    assert sorted(os.listdir(tmp_path)) == ["other.partial", "set"]
    assert ".lock" not in os.listdir(tmp_path / "set")
    assert (tmp_path / "other.partial" / "data" / "half").read_text() == "x"


def left(folder: Path) -> None:
    """Make what may be another process's work, or a killed one's."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "half").write_text("x")
