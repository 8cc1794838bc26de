"""Parts that version 0.1 wrote are read, and no pickle among them can run anything."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, TensorStorageMetadata

from pi05.errors import CheckpointError
from pi05.train.parallel.parts_of_0_1 import METADATA, is_of_0_1, read_parts_of_0_1

SAVED = Path(__file__).parents[3] / "golden/saved_runs/split/checkpoints/000004/training_state/parts"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED, tmp_path / "parts"))


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def change_metadata(folder: Path, change: Any) -> None:
    metadata: Metadata = pickle.loads((folder / METADATA).read_bytes())
    (folder / METADATA).write_bytes(pickle.dumps(change(metadata) or metadata))


def test_the_saved_run_of_0_1_is_read(parts: Path) -> None:
    assert is_of_0_1(parts)
    found = read_parts_of_0_1(parts, {})
    moments = [name for name in found if name.startswith("optimizer/exp_avg/")]
    assert moments
    assert {name.partition("/")[0] for name in found} == {"optimizer", "raw"}
    assert all(torch.isfinite(value).all() for value in found.values())
    assert any(found[name].any() for name in moments)


@pytest.mark.parametrize("place", ["whole", "inside", "as a place"])
def test_a_hostile_pickle_runs_nothing(parts: Path, tmp_path: Path, place: str) -> None:
    mark = tmp_path / "ran"
    if place == "whole":
        (parts / METADATA).write_bytes(pickle.dumps(Hostile(mark)))
    if place == "inside":
        change_metadata(parts, lambda metadata: metadata.state_dict_metadata.update(evil=Hostile(mark)))
    if place == "as a place":
        change_metadata(parts, lambda metadata: metadata.storage_data.update(evil=Hostile(mark)))
    with pytest.raises(CheckpointError, match="damaged or incomplete") as refusal:
        read_parts_of_0_1(parts, {})
    assert "posix.system" in str(refusal.value.found)
    assert not mark.exists()


def test_a_hostile_tensor_file_runs_nothing(parts: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for path in parts.glob("*.distcp"):
        torch.save(Hostile(mark), tmp_path / "evil")
        path.write_bytes((tmp_path / "evil").read_bytes() + bytes(path.stat().st_size))
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_parts_of_0_1(parts, {})
    assert not mark.exists()


def test_bytes_that_torch_would_unpickle_are_no_tensors(parts: Path) -> None:
    change_metadata(parts, lambda metadata: metadata.state_dict_metadata.update(evil=BytesStorageMetadata()))
    with pytest.raises(CheckpointError):
        read_parts_of_0_1(parts, {})


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "absent.distcp", 3])
def test_files_outside_of_the_folder_are_not_opened(parts: Path, name: Any) -> None:
    (parts.parent / "outside").write_bytes(b"secret")

    def point_elsewhere(metadata: Metadata) -> None:
        label, place = next(iter(metadata.storage_data.items()))
        metadata.storage_data[label] = _StorageInfo(name, place.offset, place.length)

    change_metadata(parts, point_elsewhere)
    with pytest.raises(CheckpointError, match="damaged or incomplete") as refusal:
        read_parts_of_0_1(parts, {})
    assert "no file of this folder" in str(refusal.value.found)


def test_more_than_the_files_hold_is_not_allocated(parts: Path) -> None:
    def grow(metadata: Metadata) -> None:
        kind = next(
            value for value in metadata.state_dict_metadata.values() if isinstance(value, TensorStorageMetadata)
        )
        kind.size = torch.Size([10**13])

    change_metadata(parts, grow)
    with pytest.raises(CheckpointError, match="damaged or incomplete") as refusal:
        read_parts_of_0_1(parts, {})
    assert "bytes of tensors" in str(refusal.value.found)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", b"not a pickle", pickle.dumps({"a": 1}), b"\x80\x05" + b"(" * 10**5]
)
def test_a_damaged_description_is_told(parts: Path, content: bytes) -> None:
    (parts / METADATA).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_parts_of_0_1(parts, {})


def test_damaged_tensors_are_told(parts: Path) -> None:
    path = next(parts.glob("*.distcp"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_parts_of_0_1(parts, {})
