"""`meta/stats.json` that is true of the data, and one of other data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from check_subjects import write_set

from pi05.check.stored_statistics import check_stored_statistics
from pi05.check.subject import Subject
from pi05.data.lerobot.reader import Dataset
from pi05.finding import Finding


def told(dataset: Dataset) -> list[Finding]:
    return list(check_stored_statistics(Subject(dataset=dataset, episodes=[0])))


def edited(dataset: Dataset, feature: str, name: str, value: object) -> Dataset:
    path = dataset.root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats[feature][name] = value
    path.write_text(json.dumps(stats))
    return dataset


def test_true_statistics(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=3)
    assert told(dataset) == []
    path = dataset.root / "meta" / "stats.json"
    assert np.allclose(json.loads(path.read_text())["action"]["mean"], dataset.actions().mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("name", ["min", "max", "mean", "std"])
def test_statistics_of_other_data(tmp_path: Path, name: str) -> None:
    dataset = write_set(tmp_path / "set", episodes=3)
    (finding,) = told(edited(dataset, "action", name, [0.0, 1.0, 5.0, 2.0]))
    assert (finding.name, finding.status) == ("structure.statistics", "note")
    assert f"{name} of dimension" in finding.text
    assert list(finding.numbers) == ["action"]


@pytest.mark.parametrize("value", [None, "much", [1, 2], [float("nan")] * 4, {"a": 1}, [[1.0], 2.0]])
def test_what_cannot_be_read_is_not_compared(tmp_path: Path, value: object) -> None:
    dataset = write_set(tmp_path / "set", episodes=2)
    assert told(edited(dataset, "action", "mean", value)) == []


def test_a_set_without_statistics(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=2)
    (dataset.root / "meta" / "stats.json").unlink()
    assert told(dataset) == []
