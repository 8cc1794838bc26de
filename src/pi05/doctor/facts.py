"""What `pi05 doctor` measures, as plain data: the only thing that probes and judges share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pi05.doctor.torch_builds import INDEX, Gpu


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a remedy has to know, so that its command is one for this machine."""

    host: str = "lab1"
    python: str = "python"
    """Path of the interpreter."""
    installer: str = "pip"
    """pip where this environment has it, else uv."""
    architecture: str = "x86_64"
    distribution: str = "other"
    """ID in /etc/os-release: ubuntu, debian and so on."""
    container: bool = False
    torch_index: str = INDEX


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that pi05 needs."""

    name: str
    oldest: str
    found: str | None
    """Its version; None when it is not installed."""


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """Python, its packages, and what else may be imported or loaded in their place."""

    version: tuple[int, int, int] = (3, 12, 4)
    virtual: bool = True
    packages: tuple[Package, ...] = ()
    sources: str | None = None
    """Folder of the sources that pi05 runs from, where it is not installed in this Python."""
    torch_folders: tuple[str, ...] = ()
    """Every folder on the import path that holds a torch."""
    user_site: str | None = None
    editable_lerobot: str | None = None
    """Its source folder."""
    python_path: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Entries of PYTHONPATH with the packages there that stand before the installed ones."""
    library_path: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Entries of LD_LIBRARY_PATH with CUDA's libraries there."""
    why_no_triton: str | None = None
    """What is missing for compiling code for a GPU: Triton, a C compiler, Python's headers."""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """NVIDIA's GPUs and driver, without torch."""

    gpus: tuple[Gpu, ...] = ()
    smi: str | None = None
    """What nvidia-smi said where it failed; None where it worked or is not installed."""
    on_bus: int = 0
    """NVIDIA display devices on the PCI bus."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU as torch sees it."""

    name: str
    capability: tuple[int, int]
    fault: str | None = None
    """Why a kernel did not run."""


@dataclass(frozen=True, kw_only=True)
class Torch:
    """torch, in a process of its own: a broken one may kill it, or never answer."""

    fault: str | None = None
    """Why it could not be imported."""
    hangs_at: str | None = None
    """The stage that did not end: import, start of CUDA, kernel, sum over GPUs."""
    version: str = ""
    cuda: str | None = None
    """CUDA version of the build; None for a CPU build."""
    architectures: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    start: str | None = None
    """Why CUDA did not start."""
    nccl: str | None = None
    sum_fault: str | None = None
    """Why a sum over all GPUs failed."""
    without_peer: tuple[tuple[int, int], ...] = ()
    """Pairs of GPUs that do not reach each other's memory."""
    kernels: bool = True
    """Whether kernels were run."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder that a run writes to."""

    role: str
    """output, frame cache, downloads or temporary."""
    path: str
    free: int = 0
    """Bytes."""
    fault: str | None = None
    """Why nothing can be written."""
    speed: float | None = None
    """Bytes per second, synced; None where it was not measured."""


@dataclass(frozen=True, kw_only=True)
class System:
    """Limits of the operating system."""

    shared_memory: int | None = None
    """Bytes of /dev/shm; None without one."""
    open_files: tuple[int, int] = (65536, 65536)
    """Soft and hard limit."""
    disks: tuple[Disk, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Video:
    """FFmpeg inside PyAV."""

    fault: str | None = None
    version: str = ""
    ffmpeg: str = ""
    decoders: dict[str, str | None] = field(default_factory=dict)
    """Codec → its software decoder; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an address answered."""

    status: int | None = None
    fault: str | None = None
    """Why there was no answer."""
    page: bool = False
    """A web page in the place of data."""
    data: Any = None
    """Its JSON, where it is that."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """Hub, mirror, login, proxies."""

    offline: str | None = None
    """What forbids connections: --offline or HF_HUB_OFFLINE."""
    endpoint: str = "https://huggingface.co"
    client: bool = True
    """Whether huggingface_hub is installed."""
    token: str | None = None
    """Where the token is from; never the token."""
    hub: Answer | None = None
    """The public facts about a public repository."""
    login: Answer | None = None
    """Who the token belongs to."""
    tokenizer: Answer | None = None
    """PaliGemma's tokenizer, which is gated."""
    local_tokenizer: str | None = None
    """A copy of it that needs no hub."""
    proxies: dict[str, str] = field(default_factory=dict)
    """Variables that name a proxy, without passwords."""
    socks: bool = True
    """Whether a SOCKS proxy can be used by the hub's client."""
    directly: Answer | None = None
    """The hub again, without the proxy, where it failed with it."""


@dataclass(frozen=True, kw_only=True)
class Trackers:
    """WandB and Trackio."""

    wandb: bool = False
    """Installed."""
    wandb_login: str | None = None
    """Where the key is from; never the key."""
    wandb_host: str = "api.wandb.ai"
    wandb_mode: str | None = None
    wandb_answer: Answer | None = None
    trackio: bool = False
    trackio_space: str | None = None
    hub_token: bool = False


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A frame drawn by each simulator that is installed."""

    tabletop: str | None = None
    """Why it could not be drawn."""
    mujoco: str | None = None
    """Its version, where it is installed."""
    drawn_by: str | None = None
    """The graphics library that drew MuJoCo's frame: egl or osmesa."""
    faults: dict[str, str] = field(default_factory=dict)
    """Graphics library → why it did not."""
    chosen: str | None = None
    """MUJOCO_GL."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that was measured; None: not looked at."""

    machine: Machine
    interpreter: Interpreter
    cards: Cards
    torch: Torch
    system: System
    video: Video | None = None
    network: Network | None = None
    trackers: Trackers | None = None
    rendering: Rendering | None = None
