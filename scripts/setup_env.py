"""Make the virtual environment `.venv`: pinned dependencies, and the build of torch that suits this machine.

Standard library only, because it runs before anything is installed. `make setup` calls it; it does nothing when nothing
has changed. With an NVIDIA GPU it picks a CUDA build that has kernels for that GPU and that its driver can run, then
starts a kernel to be sure. Without one it takes the CPU build. In the end `pi05 doctor --short` says what it finds;
nothing that it finds undoes the installation.

    python scripts/setup_env.py           set up
    python scripts/setup_env.py --plan    only say what would be installed

PI05_TORCH=cpu forces the CPU build. PI05_TORCH_INDEX names a mirror of https://download.pytorch.org/whl.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from pi05.doctor import torch_builds  # noqa: E402 - the package lies there; of it only this needs nothing installed
from pi05.doctor.torch_builds import CUDA_13, Gpu, NoBuild, choose_build  # noqa: E402

TORCH_BUILDS = Path(torch_builds.__file__)
VENV = ROOT / ".venv"
STAMP = VENV / "pi05-setup.json"
CONSTRAINTS = ROOT / "constraints.txt"
PINNED = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
RANGE = f"torch>=2.7,<={PINNED.removeprefix('torch==')}"

VERIFY = """
import torch
assert torch.cuda.is_available(), "torch sees no CUDA device"
for i in range(torch.cuda.device_count()):
    x = torch.ones(64, 64, device=f"cuda:{i}")
    assert float((x @ x).sum()) == 64**3
    print(f"{torch.cuda.get_device_name(i)}: a kernel ran, torch {torch.__version__}, CUDA {torch.version.cuda}")
"""


class SetupError(Exception):
    """Stop with a message that tells what to do."""


@dataclass(frozen=True)
class Choice:
    """Which torch to install: a requirement, an index (None: pip's own), and the reason in one line."""

    requirement: str
    index: str | None
    reason: str
    cuda: bool = False


def read_gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs of this machine, as nvidia-smi lists them; none where it is missing or fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        print(f"nvidia-smi failed, so no GPU is used: {(answer.stdout + answer.stderr).strip()}")
        return []
    return [parse_gpu(line) for line in answer.stdout.splitlines() if line.strip()]


def parse_gpu(line: str) -> Gpu:
    """Read a line such as `NVIDIA GeForce RTX 5090, 12.0, 580.65.06`."""
    try:
        return torch_builds.parse_gpu(line)
    except ValueError:
        raise SetupError(
            f"nvidia-smi said '{line}', which is not NAME, CAPABILITY, DRIVER.\n"
            "To do: update the NVIDIA driver, or set PI05_TORCH=cpu to go without the GPU."
        ) from None


def choose_cuda(gpus: list[Gpu], machine: str, index_root: str) -> Choice:
    """Pick the CUDA build for these GPUs and their driver."""
    names = ", ".join(f"{gpu.name} (compute capability {gpu.capability[0]}.{gpu.capability[1]})" for gpu in gpus)
    found = f"{names}, driver {gpus[0].driver}"
    new = max(gpu.capability for gpu in gpus) >= (12, 0)
    blackwell = " RTX 50-series needs torch 2.7 or newer with CUDA 12.8 or newer." if new else ""
    try:
        build = choose_build(gpus)
    except NoBuild as reason:
        raise SetupError(f"{found}: {reason.problem}.\nTo do: {reason.remedy}.") from None
    if build == CUDA_13:
        # PyPI's Linux wheel of the pinned version is the CUDA 13.0 build on x86-64 and the CPU build elsewhere.
        index = None if machine == "x86_64" else f"{index_root}/{build.folder}"
        return Choice(PINNED, index, f"{found}: {PINNED} with CUDA {build.cuda}.{blackwell}", cuda=True)
    reason = f"{found}: the newest torch up to the pin with CUDA {build.cuda}.{blackwell}"
    return Choice(RANGE, f"{index_root}/{build.folder}", reason, cuda=True)


def choose_torch(gpus: list[Gpu], system: str, machine: str, environment: dict[str, str]) -> Choice:
    """Pick the build of torch for a machine."""
    index_root = environment.get("PI05_TORCH_INDEX", "https://download.pytorch.org/whl").rstrip("/")
    forced = environment.get("PI05_TORCH")
    if forced not in (None, "", "cpu"):
        raise SetupError(f"PI05_TORCH={forced} is not known.\nTo do: set it to cpu, or leave it out.")
    if gpus and not forced:
        return choose_cuda(gpus, machine, index_root)
    why = "PI05_TORCH=cpu" if forced else "no NVIDIA GPU found"
    if system != "Linux" or machine != "x86_64":
        return Choice(PINNED, None, f"{why}: {PINNED}, the CPU build.")
    if reachable(f"{index_root}/cpu/torch/"):
        return Choice(PINNED, f"{index_root}/cpu", f"{why}: {PINNED}, the CPU build.")
    return Choice(
        PINNED,
        None,
        f"{why}: {PINNED}. {index_root}/cpu cannot be reached, so pip's own index decides the build; PyPI's is larger, "
        "because it carries CUDA, and runs on a CPU as well.",
    )


def reachable(url: str) -> bool:
    """Tell whether a package index answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def fingerprint(choice: Choice) -> dict[str, str]:
    """Return what the environment depends on; while it is the same, there is nothing to do."""
    files = (CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__), TORCH_BUILDS)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    version = platform.python_version()
    return {"files": digest, "python": version, "torch": choice.requirement, "index": choice.index or "default"}


def make_venv() -> None:
    """Create `.venv` unless it is there with this version of Python."""
    settings = VENV / "pyvenv.cfg"
    lines = settings.read_text().splitlines() if settings.exists() else []
    if f"version = {platform.python_version()}" not in lines or not (VENV / "bin" / "python").exists():
        print(f"Creating {VENV} with Python {platform.python_version()}")
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        except subprocess.CalledProcessError:
            raise SetupError("Python cannot make a virtual environment.\nTo do: apt install python3-venv.") from None


def pip(*arguments: str) -> None:
    """Run pip inside the virtual environment."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    print("  pip " + " ".join(arguments), flush=True)
    if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
        raise SetupError(
            "pip could not install the packages; its own message is above.\n"
            "To do: check the network (a mirror: PIP_INDEX_URL and PI05_TORCH_INDEX) and run make setup again."
        )


def install(choice: Choice) -> None:
    """Install torch, then everything else at the pinned versions."""
    index = [] if choice.index is None else ["--index-url", choice.index]
    rest = VENV / "constraints-without-torch.txt"
    others = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("torch==")]
    rest.write_text("\n".join(others) + "\n")
    pip("--quiet", choice.requirement, *index)
    pip("--quiet", "--constraint", str(rest), "--editable", ".[dev]")


def main(arguments: list[str]) -> int:
    """Set the environment up, or with --plan say what would be done."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise SetupError(
            f"Python {platform.python_version()} is not supported.\n"
            "To do: install Python 3.11, 3.12 or 3.13 and run make setup PYTHON=python3.12."
        )
    choice = choose_torch(read_gpus(), platform.system(), platform.machine(), dict(os.environ))
    if arguments == ["--plan"]:
        print(choice.reason)
        print(f"pip install {choice.requirement}" + (f" --index-url {choice.index}" if choice.index else ""))
        return 0
    if arguments:
        raise SetupError(f"{' '.join(arguments)} is not known.\nTo do: use --plan, or nothing.")
    wanted = fingerprint(choice)
    if STAMP.exists() and json.loads(STAMP.read_text()) == wanted:
        return 0
    print(choice.reason, flush=True)
    make_venv()
    install(choice)
    if choice.cuda:
        verify_cuda()
    STAMP.write_text(json.dumps(wanted))
    examine()
    return 0


def examine() -> None:
    """Let `pi05 doctor` tell what it finds. The environment is made, whatever that is."""
    try:
        subprocess.run([str(VENV / "bin" / "pi05"), "doctor", "--short"], check=False, cwd=ROOT)
    except OSError as error:
        print(f"pi05 doctor could not be started: {error}")


def verify_cuda() -> None:
    """Run a kernel on every GPU."""
    answer = subprocess.run([str(VENV / "bin" / "python"), "-c", VERIFY], capture_output=True, text=True, check=False)
    print(answer.stdout.strip(), flush=True)
    if answer.returncode != 0:
        raise SetupError(
            f"torch was installed and cannot use the GPU:\n{answer.stderr.strip()}\n"
            "To do: update the NVIDIA driver, or set PI05_TORCH=cpu to go without the GPU."
        )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
