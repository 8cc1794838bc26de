"""Words that name a part of LIBERO in a setting: suites of tasks, and whose rules an evaluation follows. Torch-free.

The rules themselves are numbers in `protocols.py`.
"""

from __future__ import annotations

from typing import Literal

Suite = Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"]
ProtocolName = Literal["openpi", "lerobot"]
Start = Literal["benchmark", "random"]
"""Where an episode begins: in one of the benchmark's 50 initial states of the task, or in a layout drawn anew."""

SUITES: tuple[Suite, ...] = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
MUJOCO_VERSION = "mujoco-version"
"""What `--allow` calls another MuJoCo than the one that LIBERO's published rates were measured with."""
CONTROL_RATE = "control-rate"
"""What `--allow` calls a policy whose data set tells another rate than 20 Hz, as LIBERO's own sets do."""
ALLOWED = (MUJOCO_VERSION, CONTROL_RATE)
