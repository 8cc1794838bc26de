"""PyTorch's choice of a kernel, by GPU."""

from __future__ import annotations

import pytest

from pi05.train.device.kernels import Capability, Kernel, expected_kernel

NEW, OLD = 92000, 91002


@pytest.mark.parametrize(
    ("capability", "head_dim", "masked", "cudnn", "kernel"),
    [
        ((7, 5), 256, False, NEW, "math"),
        ((8, 0), 256, False, NEW, "flash"),
        ((8, 0), 256, True, NEW, "efficient"),
        ((8, 9), 72, False, NEW, "flash"),
        ((8, 9), 256, False, NEW, "flash"),
        ((8, 9), 200, False, NEW, "efficient"),
        ((8, 9), 256, True, NEW, "efficient"),
        ((9, 0), 72, False, NEW, "cudnn"),
        ((9, 0), 256, True, NEW, "cudnn"),
        ((9, 0), 256, True, OLD, "efficient"),
        ((9, 0), 256, False, None, "flash"),
        ((10, 0), 72, False, NEW, "cudnn"),
        ((10, 0), 256, False, NEW, "flash"),
        ((10, 0), 256, True, NEW, "efficient"),
        ((12, 0), 256, True, NEW, "efficient"),
    ],
)
def test_the_kernel_of_a_gpu(
    capability: Capability, head_dim: int, masked: bool, cudnn: int | None, kernel: Kernel
) -> None:
    assert expected_kernel(capability, head_dim=head_dim, masked=masked, cudnn=cudnn) == kernel
