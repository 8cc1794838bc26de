"""Names of LIBERO that settings use: suites and evaluation protocols. Torch- and NumPy-free."""

from __future__ import annotations

from typing import Literal

Suite = Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"]
SUITES: tuple[Suite, ...] = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
ProtocolName = Literal["openpi", "lerobot"]
