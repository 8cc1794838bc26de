"""What a split training leaves in parts is all that it needs besides its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import SETTINGS, make_batch, make_model, make_state

from pi05.checkpoint import store
from pi05.train.parallel.checkpoint import PARTS, write_parts
from pi05.train.parallel.parts import read_parts
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
    write_parts(tmp_path / store.TRAINING, state, state.optimizer.parameters)
    return tmp_path


def test_moments_and_raw_weights_come_back(folder: Path, state: TrainState) -> None:
    found = read_parts(folder / store.TRAINING / PARTS, state.optimizer.parameters)
    expected = {f"optimizer/{name}": value for name, value in state.optimizer.tensors().items()}
    expected |= {f"raw/{name}": value.detach() for name, value in state.optimizer.parameters.items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
