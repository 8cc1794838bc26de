"""Which build of torch a machine can run: from its GPUs and their driver to the CUDA version of the build.

`pi05 doctor` and `scripts/setup_env.py` ask here, the latter before anything is installed: standard library only.
Sources: PyTorch's RELEASE.md (which build has kernels for which GPU), NVIDIA's CUDA compatibility guide (drivers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INDEX = "https://download.pytorch.org/whl"
NEWEST_DRIVER, BLACKWELL_DRIVER, OLDEST_DRIVER = 580, 570, 525
"""Oldest NVIDIA drivers for CUDA 13.0, for CUDA 12.8, and for any CUDA 12 build."""
BLACKWELL = (10, 0)
"""Compute capability of B200 and, with 12.0, the RTX 50 series; their kernels came with torch 2.7 for CUDA 12.8."""
OLDEST_FOR_CUDA_12_8 = (7, 5)
"""Since torch 2.11 the builds for CUDA 12.8, like those for CUDA 13, have no kernels for Volta and older."""


class NoBuild(Exception):
    """No build of torch runs on these GPUs with this driver. `remedy` is what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Gpu:
    """One line of nvidia-smi."""

    name: str
    capability: tuple[int, int]
    driver: str

    @property
    def driver_major(self) -> int:
        """First number of the driver's version."""
        return int(self.driver.split(".")[0])


@dataclass(frozen=True)
class Build:
    """The CUDA version of a build of torch, and the folder of PyTorch's index that has it."""

    cuda: str
    folder: str


CUDA_13, CUDA_12_8, CUDA_12_6 = Build("13.0", "cu130"), Build("12.8", "cu128"), Build("12.6", "cu126")


def parse_gpu(line: str) -> Gpu:
    """Read a line such as `NVIDIA GeForce RTX 5090, 12.0, 580.65.06`. Raises ValueError for any other text."""
    name, capability, driver = (part.strip() for part in line.rsplit(",", 2))
    major, minor = (int(number) for number in capability.split("."))
    int(driver.split(".")[0])
    return Gpu(name, (major, minor), driver)


def choose_build(gpus: Sequence[Gpu]) -> Build:
    """Return the newest build that has kernels for all these GPUs and that their driver runs. Raises NoBuild."""
    oldest, newest = min(gpu.capability for gpu in gpus), max(gpu.capability for gpu in gpus)
    driver = gpus[0].driver_major
    needed = BLACKWELL_DRIVER if newest >= BLACKWELL else OLDEST_DRIVER
    if driver < needed:
        what = "this GPU" if newest >= BLACKWELL else "CUDA 12"
        raise NoBuild(f"{what} needs driver {needed} or newer", "update the driver")
    if oldest >= OLDEST_FOR_CUDA_12_8:
        return CUDA_13 if driver >= NEWEST_DRIVER else CUDA_12_8 if driver >= BLACKWELL_DRIVER else CUDA_12_6
    if newest >= BLACKWELL:
        raise NoBuild(
            "no build of torch has kernels for both", "show it GPUs of one kind: export CUDA_VISIBLE_DEVICES=NUMBERS"
        )
    return CUDA_12_6


def has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Tell whether a build with these `torch.cuda.get_arch_list()` runs on a GPU.

    sm_86 runs on 8.6 and 8.9 (same major number, no older); compute_90 is compiled at the start for 9.0 and newer;
    what ends with a letter, such as sm_90a, runs on exactly that GPU.
    """
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        exact = not number.isdigit()
        digits = "".join(filter(str.isdigit, number))
        built = (int(digits[:-1]), int(digits[-1]))
        if built == capability:
            return True
        if not exact and kind == "sm" and built[0] == capability[0] and built <= capability:
            return True
        if not exact and kind == "compute" and built <= capability:
            return True
    return False
