"""Disks and limits; the disks are real folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pi05.doctor.probes.system import SAMPLE, probe_disk, probe_system


def test_a_disk_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    times = iter([10.0, 10.5])
    disk = probe_disk("output", tmp_path / "not" / "there", lambda: next(times))
    assert disk.speed == 2 * SAMPLE
    assert disk.free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert (disk.path, disk.fault) == (str(tmp_path / "not" / "there"), None)
    assert not list(tmp_path.iterdir())


def test_without_a_clock_no_speed(tmp_path: Path) -> None:
    assert probe_disk("output", tmp_path, None).speed is None


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert probe_disk("output", tmp_path / "file", None).fault == "Not a directory"
    assert probe_disk("output", Path("/proc/pi05"), None).fault is not None


def test_places_limits_and_shared_memory(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hub")}
    system = probe_system(
        tmp_path / "runs",
        measure_speed=False,
        environment=environment,
        shared_memory=tmp_path,
        open_files=lambda: (1024, 2048),
    )
    assert system.open_files == (1024, 2048)
    assert system.shared_memory == shutil.disk_usage(tmp_path).total
    paths = {disk.role: disk.path for disk in system.disks}
    assert paths["output"] == str(tmp_path / "runs")
    assert paths["frame cache"] == str(tmp_path / ".cache" / "pi05" / "frames")
    assert paths["downloads"] == str(tmp_path / "hub")
    none = probe_system(tmp_path, measure_speed=False, environment={}, shared_memory=tmp_path / "none")
    assert none.shared_memory is None
    assert none.open_files[0] > 0
    assert {disk.path for disk in none.disks} >= {"/.cache/huggingface"}
    assert os.listdir(tmp_path) == []
