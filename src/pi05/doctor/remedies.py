"""Commands that mend, as they are typed on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pi05.doctor.facts import Machine
from pi05.doctor.torch_builds import BLACKWELL, BLACKWELL_DRIVER, NEWEST_DRIVER, Build, Gpu, NoBuild, choose_build


def install(machine: Machine, *packages: str, index: str | None = None, again: bool = False) -> str:
    """Return the command that installs packages into this environment; `again` replaces another build of them."""
    if machine.installer == "uv":
        words = ["uv", "pip", "install", "--python", machine.python, *(["--reinstall"] if again else [])]
    else:
        words = [machine.python, "-m", "pip", "install", *(["--force-reinstall"] if again else [])]
    words += [*packages, *([] if index is None else ["--index-url", index])]
    return shlex.join(words)


def uninstall(machine: Machine, package: str) -> str:
    """Return the command that removes a package from this environment."""
    if machine.installer == "uv":
        return shlex.join(["uv", "pip", "uninstall", "--python", machine.python, package])
    return shlex.join([machine.python, "-m", "pip", "uninstall", "-y", package])


def install_compiler(machine: Machine) -> str:
    """Return how a C compiler and Python's headers are installed, and found."""
    if machine.distribution in ("ubuntu", "debian"):
        return "sudo apt-get install gcc python3-dev && unset CC"
    return "install gcc and the headers of this Python; unset CC"


def install_build(machine: Machine, build: Build | None) -> str:
    """Return the command that installs torch's build for a CUDA version, or the CPU build."""
    folder = "cpu" if build is None else build.folder
    return install(machine, "torch>=2.7", index=f"{machine.torch_index}/{folder}", again=True)


def install_torch(machine: Machine, gpus: Sequence[Gpu]) -> str:
    """Return the command that installs the build of torch that these GPUs and their driver run, or what comes first."""
    try:
        build = choose_build(gpus) if gpus else None
    except NoBuild as reason:
        if reason.remedy != "update the driver":
            return reason.remedy
        return f"{update_driver(machine, gpus)}  # then: {install_build(machine, choose_build(_with_new_driver(gpus)))}"
    return install_build(machine, build)


def _with_new_driver(gpus: Sequence[Gpu]) -> list[Gpu]:
    return [Gpu(gpu.name, gpu.capability, f"{NEWEST_DRIVER}.0") for gpu in gpus]


def update_driver(machine: Machine, gpus: Sequence[Gpu] = ()) -> str:
    """Return how the driver is updated: a package on Ubuntu, elsewhere NVIDIA's page, in a container on its host."""
    if machine.container:
        return f"update the driver of the machine that runs this container to {NEWEST_DRIVER} or newer"
    if machine.distribution == "ubuntu":
        # Blackwell runs with the open kernel modules only
        flavour = "-open" if any(gpu.capability >= BLACKWELL for gpu in gpus) else ""
        return f"sudo apt-get install nvidia-driver-{NEWEST_DRIVER}{flavour} && sudo reboot"
    return f"install driver {NEWEST_DRIVER} or newer (at least {BLACKWELL_DRIVER}): https://www.nvidia.com/drivers"


def gibibytes(count: float) -> str:
    """Return a number of bytes as people read it."""
    if count < 2**30:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / 2**30:.1f} GiB" if count < 100 * 2**30 else f"{count / 2**30:,.0f} GiB"
