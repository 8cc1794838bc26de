"""`pi05 check --fix` as a user types it: the copy, what is told, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_table, replace, set_cell
from fakes import CAMERAS, FakeDataset, write_dataset

from pi05.cli import main
from pi05.data.lerobot.reader import Dataset


@pytest.fixture
def broken(tmp_path: Path) -> FakeDataset:
    """A set with a bad clock in one episode and a NaN in another."""
    fake = write_dataset(tmp_path / "set", "v2.1", [40, 30, 50])
    times = np.arange(40) / 10 + np.random.default_rng(0).uniform(0, 0.03, 40)
    edit_table(data_file(fake, 0), lambda table: replace(table, "timestamp", pa.array(times.astype(np.float32))))
    set_cell(data_file(fake, 1), "action", 3, lambda cell: [float("nan"), *cell[1:]])
    return fake


def test_the_copy_is_told_and_checked(broken: FakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(broken.root), "--quick", "--offline"]) == 1
    capsys.readouterr()
    code = main(["check", str(broken.root), f"--fix={tmp_path / 'out'}", "--quick", "--offline"])
    text = capsys.readouterr().out
    assert f"{tmp_path / 'out'}: 2 episodes, 90 frames; {broken.root} is as it was" in text
    assert "done  clock       timestamps are frame / fps: in episode 0" in text
    assert "done  episodes    episode 1 is left out: the action of frame 3 is not a number" in text
    assert "structure.clock" not in text
    assert "numbers.not_finite" not in text
    data = Dataset(tmp_path / "out")
    np.testing.assert_array_equal(data.states(), broken.states[[*range(40), *range(70, 120)]])
    assert main(["check", str(tmp_path / "out"), "--quick", "--offline"]) == code


def test_json_holds_the_repairs(broken: FakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(broken.root), f"--fix={tmp_path / 'out'}", "--quick", "--offline", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["repairs"]["source_numbers"] == [0, 2]
    assert report["repairs"] == json.loads((tmp_path / "out/meta/repairs.json").read_text())
    assert report["dataset"] == str(tmp_path / "out")


def test_flags_of_training_choose_what_is_copied(broken: FakeDataset, tmp_path: Path) -> None:
    words = [f"--fix={tmp_path / 'out'}", f"--drop_cameras=[{CAMERAS[1]}]", "--dataset.exclude_episodes=[2]"]
    main(["check", str(broken.root), *words, "--quick", "--offline"])
    data = Dataset(tmp_path / "out")
    assert data.camera_keys == [CAMERAS[0]]
    assert [episode.length for episode in data.episodes] == [40]


@pytest.mark.parametrize("out", ["set", "set/copy", ".", "full", "nowhere/copy"])
def test_places_that_cannot_be(
    broken: FakeDataset, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert main(["check", "set", "--fix", out, "--quick", "--offline"]) == 2
    message = capsys.readouterr().err
    assert "never repaired in place" in message
    assert "Traceback" not in message
    assert sorted(os.listdir(tmp_path)) == ["full", "set"]


@pytest.mark.process
def test_an_interruption_leaves_nothing(tmp_path: Path, start: Callable[..., Any]) -> None:
    fake = write_dataset(tmp_path / "set", "v2.1", [30] * 60, storage="image")
    process = start("check", str(fake.root), f"--fix={tmp_path / 'out'}", "--quick", "--offline")
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob(".out.*.tmp/data/*/*.parquet")) and time.monotonic() < give_up:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert text.endswith("Interrupted.\n")
    assert os.listdir(tmp_path) == ["set"]


def test_what_a_killed_process_left_is_removed(broken: FakeDataset, tmp_path: Path) -> None:
    leftover = tmp_path / ".out.0a1b2c3d.tmp"
    (leftover / "data").mkdir(parents=True)
    (leftover / ".lock").touch()
    main(["check", str(broken.root), f"--fix={tmp_path / 'out'}", "--quick", "--offline"])
    assert sorted(os.listdir(tmp_path)) == ["out", "set"]
