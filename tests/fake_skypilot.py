"""What SkyPilot gives a machine for launch/skypilot.yaml: the shell lines, and the variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

TASK: dict[str, Any] = yaml.safe_load((Path(__file__).resolve().parents[1] / "launch" / "skypilot.yaml").read_text())


def shell_lines(here: Mapping[str, str]) -> str:
    """Return the lines that run on each machine, with paths and ports of the file replaced by those of a test."""
    lines = str(TASK["run"])
    for ours, mine in here.items():
        assert ours in lines
        lines = lines.replace(ours, mine)
    return lines


def variables(rank: int, run: str, flags: str, addresses: Sequence[str], gpus: int) -> dict[str, str]:
    """Return what the machine of a rank finds in its environment."""
    return {
        "RUN_NAME": run,
        "FLAGS": flags,
        "SKYPILOT_NUM_NODES": str(len(addresses)),
        "SKYPILOT_NODE_RANK": str(rank),
        "SKYPILOT_NODE_IPS": "\n".join(addresses),
        "SKYPILOT_NUM_GPUS_PER_NODE": str(gpus),
    }
