"""NVIDIA's GPUs and driver, asked without torch: nvidia-smi, and the PCI bus where that is silent."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from pi05.doctor.facts import Cards
from pi05.doctor.torch_builds import Gpu, parse_gpu

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
SMI_SECONDS = 20
NVIDIA, DISPLAY = "0x10de", "0x03"

Run = Callable[[], "tuple[int, str] | None"]
"""Runs nvidia-smi: exit code and output, or None where it is not installed."""


def probe_cards(
    *,
    run: Run | None = None,
    environment: Mapping[str, str] = os.environ,
    bus: Path = Path("/sys/bus/pci/devices"),
) -> Cards:
    """Ask nvidia-smi, and count NVIDIA's display devices on the bus."""
    visible, on_bus = environment.get("CUDA_VISIBLE_DEVICES"), _count(bus)
    answer = (run or run_smi)()
    if answer is None:
        return Cards(on_bus=on_bus, visible=visible)
    code, text = answer
    try:
        gpus: tuple[Gpu, ...] = tuple(parse_gpu(line) for line in text.splitlines() if line.strip())
    except ValueError:
        gpus = ()
    if code != 0 or not gpus:
        return Cards(smi=_one_line(text) or f"exit code {code}", on_bus=on_bus, visible=visible)
    return Cards(gpus=gpus, on_bus=on_bus, visible=visible)


def run_smi() -> tuple[int, str] | None:
    """Run nvidia-smi, with a limit: it hangs where a GPU has fallen off the bus."""
    if shutil.which(QUERY[0]) is None:
        return None
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, check=False, timeout=SMI_SECONDS)
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {SMI_SECONDS} s"
    return answer.returncode, answer.stdout + answer.stderr


def _count(bus: Path) -> int:
    found = 0
    for device in sorted(bus.glob("*")):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        found += vendor.strip() == NVIDIA and kind.startswith(DISPLAY)
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
