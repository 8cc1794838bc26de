"""Frames against rows, by headers alone: missing ones refuse, surplus ones are named with what they may mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from broken import video_file
from fakes import CAMERAS, numbered_image, write_dataset, write_video

from pi05.check.subject import Subject
from pi05.check.video_counts import check_video_counts, judge_counts
from pi05.data.lerobot.clips import ClipCount
from pi05.data.lerobot.reader import Dataset
from pi05.finding import Finding


def checked(root: Path) -> list[Finding]:
    dataset = Dataset(root)
    heard: list[tuple[int, int, str]] = []
    findings = list(check_video_counts(Subject(dataset=dataset, episodes=[0, 1, 2]), lambda *told: heard.append(told)))
    assert heard[-1][:2] == (6, 6)
    return findings


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_equal_counts(tmp_path: Path, version: str) -> None:
    findings = checked(write_dataset(tmp_path, version).root)
    assert [(f.name, f.status) for f in findings] == [("structure.video_frames", "ok")] * 2


@pytest.mark.parametrize(("change", "name", "status"), [(8, "surplus", "warning"), (-3, "missing", "error")])
def test_frames_too_many_or_too_few(tmp_path: Path, change: int, name: str, status: str) -> None:
    """The ninth frame may have been filmed before the first row or after the last one: the count does not tell."""
    fake = write_dataset(tmp_path, "v2.1")
    frames = [numbered_image(i, 0) for i in range(fake.lengths[1] + change)]
    write_video(video_file(fake, 1), frames, 10)
    first = checked(fake.root)[0]
    assert (first.name, first.status) == (f"structure.{name}_frames", status)
    assert first.numbers == {"camera": CAMERAS[0], "episodes": [1], "frames": [change]}
    assert change < 0 or "does not tell whether they come before" in first.text


def test_gaps_between_the_episodes_of_one_file() -> None:
    """A start time may round by a frame; the last stretch of a file is counted exactly."""
    counts = [ClipCount(e, Path("a.mp4"), frames, 10, is_last=e == 3) for e, frames in enumerate((10, 11, 15, 10))]
    (found,) = judge_counts("top", counts, 10.0)
    assert (found.name, found.numbers["episodes"], found.numbers["frames"]) == ("structure.surplus_frames", [2], [5])


def test_stored_pictures_have_no_videos(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path, storage="image").root)
    assert not list(check_video_counts(Subject(dataset=dataset, episodes=[0]), lambda *_: None))
    assert np.shape(dataset.states())[0] == 28
