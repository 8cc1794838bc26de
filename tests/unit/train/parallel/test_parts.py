"""Tensors in parts: what was written is read again on any number of processes, and what is damaged is told as such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from pi05.errors import CheckpointError
from pi05.train.parallel.parts import KEY, read_parts, write_part
from pi05.train.parallel.ranks import Ranks

WHOLE = {
    "optimizer/exp_avg/w": torch.arange(15, dtype=torch.float32).view(5, 3),
    "optimizer/step/w": torch.tensor(7.0),
    "raw/v": torch.arange(4, dtype=torch.bfloat16),
}


def write_by_hand(path: Path, tensors: dict[str, Tensor], places: Any, **told: Any) -> None:
    metadata = {KEY: json.dumps({"version": 1, "tensors": places, **told})}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


@pytest.fixture
def two_parts(tmp_path: Path) -> Path:
    """What two processes would have written: rows 0 to 2 and 3 to 4."""
    rows = WHOLE["optimizer/exp_avg/w"]
    values = {**WHOLE, "optimizer/exp_avg/w": rows[:3].contiguous()}
    places = {name: {"shape": list(value.shape), "offset": [0] * value.ndim} for name, value in WHOLE.items()}
    write_by_hand(tmp_path / "part-00000.safetensors", values, places)
    rest = {"optimizer/exp_avg/w": {"shape": [5, 3], "offset": [3, 0]}}
    write_by_hand(tmp_path / "part-00001.safetensors", {"optimizer/exp_avg/w": rows[3:].contiguous()}, rest)
    return tmp_path


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == WHOLE.keys() and all(
        torch.equal(value, WHOLE[name]) and value.dtype == WHOLE[name].dtype for name, value in found.items()
    )


def test_one_process_reads_what_it_wrote(tmp_path: Path) -> None:
    write_part(tmp_path, WHOLE, Ranks())
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.safetensors"]
    assert same(read_parts(tmp_path, {}))


def test_one_process_reads_what_two_wrote(two_parts: Path) -> None:
    assert same(read_parts(two_parts, {}))


def test_another_rank_writes_no_copy_of_what_all_hold(tmp_path: Path) -> None:
    class Second(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [None, value]

    write_part(tmp_path, WHOLE, Second(rank=1, world_size=2))
    assert safetensors.torch.load_file(tmp_path / "part-00001.safetensors") == {}


def test_a_full_disk_of_one_process_is_an_error_of_all(tmp_path: Path) -> None:
    class First(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [value, (28, "rank 1: no space left on device")]

    with pytest.raises(OSError, match="rank 1: no space left") as failure:
        write_part(tmp_path, WHOLE, First(world_size=2))
    assert failure.value.errno == 28


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"shape": [5, 3], "offset": [2, 0]}, "overlap"),  # as many values as there should be, and a gap
        ({"shape": [5, 3], "offset": [4, 0]}, "does not fit"),
        ({"shape": [6, 3], "offset": [3, 0]}, "does not fit"),
        ({"shape": [5, 3], "offset": [-1, 0]}, "does not say where"),
        ({"shape": [5, 3], "offset": [3]}, "does not say where"),
        ({"shape": [5, True], "offset": [3, 0]}, "does not say where"),
        ({"shape": "5x3", "offset": [3, 0]}, "does not say where"),
        ([5, 3], "does not say where"),
    ],
)
def test_places_that_cannot_be_are_told(two_parts: Path, place: Any, told: str) -> None:
    rows = WHOLE["optimizer/exp_avg/w"][3:].contiguous()
    write_by_hand(two_parts / "part-00001.safetensors", {"optimizer/exp_avg/w": rows}, {"optimizer/exp_avg/w": place})
    with pytest.raises(CheckpointError, match="damaged or incomplete") as refusal:
        read_parts(two_parts, {})
    assert told in str(refusal.value.found)


@pytest.mark.parametrize("damage", ["missing", "no file", "cut", "no metadata", "deep", "version"])
def test_damaged_parts_are_told(two_parts: Path, damage: str) -> None:
    path = two_parts / "part-00001.safetensors"
    rows = {"optimizer/exp_avg/w": torch.zeros(2, 3)}
    if damage in ("missing", "no file"):
        path.unlink()
    if damage == "no file":
        (two_parts / "part-00000.safetensors").unlink()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    if damage == "no metadata":
        safetensors.torch.save_file(rows, path)
    if damage == "deep":
        safetensors.torch.save_file(rows, path, metadata={KEY: "[" * 100_000})
    if damage == "version":
        write_by_hand(path, rows, {"optimizer/exp_avg/w": {"shape": [5, 3], "offset": [3, 0]}}, version=2)
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_parts(two_parts, {})
