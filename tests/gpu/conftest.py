"""What tests on a GPU share: nothing in them fails because PyTorch itself warns of something."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pi05.train.config import TrainConfig
from pi05.train.device.setup import CUBLAS, CUBLAS_WORKSPACE, prepare_device

os.environ.setdefault(CUBLAS, CUBLAS_WORKSPACE)  # read once, when cuBLAS starts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take warnings for warnings here: of cuBLAS on autograd's thread, of strides, of features in preparation."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Set PyTorch up as `--deterministic` does, for one test."""
    prepare_device(TrainConfig(deterministic=True), torch.device("cuda"))
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
