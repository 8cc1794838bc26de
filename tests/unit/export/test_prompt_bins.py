"""The frames whose prompt another program writes otherwise are found, counted and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exports import silent

from pi05.checkpoint.locate import locate
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar, write_sidecar
from pi05.data.lerobot.reader import Dataset
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError
from pi05.export.export import export_policy
from pi05.export.prompt_bins import EDGES, KEPT, count_bins, read_elsewhere, state_bins
from pi05.export.verify import file_facts, verify
from pi05.policy import Policy
from pi05.train.config import TINY_BASE

NARROW = 2
"""A state dimension as real joints have them: a range of 1e-4, at 1.6."""


def narrow(states: np.ndarray) -> np.ndarray:
    values = states.copy()
    values[:, NARROW] = 1.6283 + 2e-5 * states[:, NARROW]
    return values


def statistics_of(states: np.ndarray) -> DimStats:
    exact = states.astype(np.float64)
    low, high = np.quantile(exact, 0.01, axis=0), np.quantile(exact, 0.99, axis=0)
    ends = {"min": exact.min(axis=0), "max": exact.max(axis=0)}
    return DimStats(count=len(states), mean=exact.mean(axis=0), std=exact.std(axis=0), q01=low, q99=high, **ends)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Policy.load(TINY_BASE).processor


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the packaged network on a data set with a narrow state dimension."""
    root = tmp_path_factory.mktemp("run")
    fakes.write_dataset(
        root / "set", episodes=(150, 150), state_dim=3, cameras=("front",), storage="image", height=8, width=8
    )
    for file in (root / "set" / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        states = narrow(np.stack(table["observation.state"].to_numpy()))
        place = table.column_names.index("observation.state")
        column = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel(), pa.float32()), 3)
        pq.write_table(table.set_column(place, "observation.state", column), file)
    folder = root / "run" / "checkpoints" / "000001"
    shutil.copytree(TINY_BASE, folder)
    config = json.loads((folder / "config.json").read_text())
    config["processor"]["state_stats"] = statistics_of(Dataset(root / "set").states()).to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    (root / "run" / "config.json").write_text(json.dumps({"dataset": {"root": str(root / "set")}}))
    return folder


def test_the_frames_that_differ_are_found(processor: Processor) -> None:
    states = narrow(np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32))
    ours = replace(processor, state_stats=statistics_of(states))
    theirs = read_elsewhere(ours, "lerobot")
    count = count_bins(ours, theirs, states)
    apart = (state_bins(ours, states) != state_bins(theirs, states)).any(axis=1)
    assert count.differ == apart.sum() > 10
    assert count.dimensions == (NARROW,)
    assert len(count.states) == KEPT
    kept = (state_bins(ours, count.states) != state_bins(theirs, count.states)).any(axis=1)
    assert kept.sum() == min(count.differ, KEPT), "those that differ come first"
    assert kept[: count.differ].all()


@pytest.mark.parametrize(("formula", "to"), [("lerobot", "lerobot"), ("openpi", "openpi")])
def test_a_policy_in_the_readers_own_formula_is_read_alike(processor: Processor, formula, to: str) -> None:
    states = narrow(np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32))
    ours = replace(processor, state_stats=statistics_of(states), formula=formula)
    assert count_bins(ours, read_elsewhere(ours, to), states).differ == 0


def test_the_export_says_in_how_many_frames_its_prompt_differs(run: Path, tmp_path: Path) -> None:
    result = export_policy(locate(run), tmp_path / "out", to="lerobot", say=silent)
    states = Dataset(run.parents[2] / "set").states()
    source, exported = Policy.load(run).processor, Policy.load(result.folder).processor
    differ = int((state_bins(source, states) != state_bins(exported, states)).any(axis=1).sum())
    assert differ > 0
    (note,) = [note for note in result.notes if "bin's edge" in note]
    assert f"in {differ} of 300 frames" in note
    facts = read_sidecar(result.folder)
    assert facts is not None
    assert facts["prompts"] == {
        "frames": 300, "differ": differ, "dimensions": [NARROW], "nearest": 256, "nearest_differ": differ
    }  # fmt: skip
    assert note in facts["notes"]
    lines: list[str] = []
    verify(result.folder, say=lines.append)
    assert any(f"{differ} of 300 frames fall into another state bin" in line for line in lines)


@pytest.mark.parametrize("where", ["gone", "none"])
def test_without_the_data_the_share_is_estimated(run: Path, tmp_path: Path, where: str) -> None:
    copy = Path(shutil.copytree(run.parents[1], tmp_path / "run"))
    if where == "gone":
        (copy / "config.json").write_text(json.dumps({"dataset": {"root": str(tmp_path / "gone")}}))
    else:
        (copy / "config.json").unlink()
    result = export_policy(locate(copy / "checkpoints" / "000001"), tmp_path / "out", to="lerobot", say=silent)
    (note,) = [note for note in result.notes if "nobody has counted" in note]
    assert "% of them" in note
    assert not (result.folder / EDGES).exists()


def _cut(folder: Path) -> None:
    (folder / EDGES).write_bytes(b"")
    facts = read_sidecar(folder)
    assert facts is not None
    write_sidecar(folder, {**facts, "files": {**facts["files"], EDGES: file_facts(folder / EDGES)}})


def _other_count(folder: Path) -> None:
    values = json.loads((folder / SIDECAR).read_text())
    values["prompts"]["nearest_differ"] += 1
    (folder / SIDECAR).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"), [(_cut, "stored states cannot be read"), (_other_count, "other states into the prompt")]
)
def test_other_prompts_than_recorded_are_an_error(
    run: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = export_policy(locate(run), tmp_path / "out", to="lerobot", say=silent).folder
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        verify(folder, say=silent)
