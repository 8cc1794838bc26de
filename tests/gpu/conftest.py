"""What tests on a GPU share: nothing in them fails because of the platform.

PyTorch's own warnings are warnings; a GPU that the product refuses is skipped, and so is what needs a compiler that is
not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pi05.train.config import TrainConfig
from pi05.train.device.kernels import OLDEST
from pi05.train.device.setup import CUBLAS, CUBLAS_WORKSPACE, prepare_device
from pi05.triton_here import why_no_triton

os.environ.setdefault(CUBLAS, CUBLAS_WORKSPACE)  # read once, when cuBLAS starts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take warnings for warnings here: of cuBLAS on autograd's thread, of strides, of features in preparation."""
    refused = None
    if torch.version.hip is not None:
        refused = "what is asked here are kernels of NVIDIA's GPUs"
    elif torch.cuda.is_available() and torch.cuda.get_device_capability() < OLDEST:
        refused = "this GPU has no bfloat16: runs are refused on it"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("default"))
            if refused is not None:
                item.add_marker(pytest.mark.skip(reason=refused))


@pytest.fixture
def compiler() -> None:
    """Skip where Triton, which compiles a launcher in C for each kernel, cannot work: what runs ask, too."""
    if (missing := why_no_triton()) is not None:
        pytest.skip(missing)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Set PyTorch up as `--deterministic` does, for one test."""
    prepare_device(TrainConfig(deterministic=True), torch.device("cuda"))
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture
def warm() -> None:
    """Let cuBLAS take its workspaces, one for each thread that multiplies: no step needs them again."""
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Linear(64, 64, device="cuda", dtype=dtype)
        layer(torch.ones(64, 64, device="cuda", dtype=dtype, requires_grad=True)).sum().backward()
    torch.cuda.synchronize()
