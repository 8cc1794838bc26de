"""Which build of torch runs where; the builds for whole machines are in tests/unit/test_setup_env.py."""

from __future__ import annotations

import pytest
from doctor_cases import CUDA_12_6, CUDA_13

from pi05.doctor.torch_builds import Gpu, NoBuild, choose_build, has_kernels, parse_gpu


@pytest.mark.parametrize(
    ("capabilities", "driver", "folder"),
    [
        ([(12, 0)], "580.65.06", "cu130"),
        ([(12, 0)], "575.57.08", "cu128"),
        ([(10, 0)], "570.86", "cu128"),
        ([(9, 0)], "579.99", "cu128"),
        ([(9, 0)], "569.1", "cu126"),
        ([(8, 0), (12, 0)], "590.1", "cu130"),
        ([(7, 5)], "590.1", "cu130"),
        ([(7, 0)], "590.1", "cu126"),
        ([(7, 0), (9, 0)], "590.1", "cu126"),
    ],
)
def test_the_newest_build_that_gpu_and_driver_allow(
    capabilities: list[tuple[int, int]], driver: str, folder: str
) -> None:
    assert choose_build([Gpu("card", capability, driver) for capability in capabilities]).folder == folder


@pytest.mark.parametrize(
    ("capabilities", "driver", "problem"),
    [
        ([(12, 0)], "569.1", "this GPU needs driver 570 or newer"),
        ([(10, 0)], "550.1", "this GPU needs driver 570 or newer"),
        ([(8, 0)], "524.1", "CUDA 12 needs driver 525 or newer"),
        ([(7, 0), (12, 0)], "590.1", "no build of torch has kernels for both"),
    ],
)
def test_no_build(capabilities: list[tuple[int, int]], driver: str, problem: str) -> None:
    with pytest.raises(NoBuild, match=problem):
        choose_build([Gpu("card", capability, driver) for capability in capabilities])


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((12, 0), CUDA_13, True),
        ((12, 0), CUDA_12_6, False),
        ((12, 1), CUDA_13, True),
        ((8, 9), CUDA_12_6, True),  # an RTX 4090 runs what is built for 8.6
        ((8, 0), ("sm_86",), False),
        ((7, 0), CUDA_13, False),
        ((9, 0), ("sm_90a",), True),
        ((9, 1), ("sm_90a",), False),
        ((12, 0), ("sm_90", "compute_90"), True),
        ((8, 0), ("compute_90",), False),
        ((9, 0), (), False),
    ],
)
def test_kernels_for_a_gpu(capability: tuple[int, int], architectures: tuple[str, ...], runs: bool) -> None:
    assert has_kernels(capability, architectures) == runs


def test_a_line_of_nvidia_smi() -> None:
    assert parse_gpu("NVIDIA GeForce RTX 5090, 12.0, 580.65.06") == Gpu("NVIDIA GeForce RTX 5090", (12, 0), "580.65.06")
    for line in ("", "card", "card, [N/A], 580.1", "card, 9.0, [N/A]"):
        with pytest.raises(ValueError):
            parse_gpu(line)
