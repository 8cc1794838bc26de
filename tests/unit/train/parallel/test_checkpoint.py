"""Parts of a checkpoint: what was written is read again, and what is damaged is told as such."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import SETTINGS, make_batch, make_model, make_state

from pi05.checkpoint import store
from pi05.errors import CheckpointError
from pi05.train.parallel.checkpoint import PARTS, read_parts, write_parts
from pi05.train.parameters import freeze
from pi05.train.step import TrainState, train_step


@pytest.fixture
def state() -> TrainState:
    model = make_model()
    found = make_state(model, freeze(model, "expert"), ema=True)
    train_step(found, [make_batch(2)], SETTINGS)
    return found


@pytest.fixture
def folder(tmp_path: Path, state: TrainState) -> Path:
    (tmp_path / store.TRAINING).mkdir()
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        write_parts(tmp_path / store.TRAINING, state, state.optimizer.parameters)
    return tmp_path


def test_moments_and_raw_weights_come_back(folder: Path, state: TrainState) -> None:
    found = read_parts(folder, state.optimizer.parameters)
    expected = {f"optimizer/{name}": value for name, value in state.optimizer.tensors().items()}
    expected |= {f"raw/{name}": value.detach() for name, value in state.optimizer.parameters.items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("damage", ["missing", "cut", "no metadata", "cut metadata"])
def test_damaged_parts_are_told(folder: Path, state: TrainState, damage: str) -> None:
    parts = folder / store.TRAINING / PARTS
    path = parts / ".metadata" if "metadata" in damage else next(parts.glob("*.distcp"))
    if damage.startswith("cut"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_parts(folder, state.optimizer.parameters)
