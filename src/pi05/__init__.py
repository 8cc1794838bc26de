"""Fine-tune π₀.₅ on your own demonstrations.

The public names resolve when they are first used, so that importing `pi05` (and `pi05 --help`) loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pi05.checkpoint.load import load_model
    from pi05.data.lerobot.reader import Dataset
    from pi05.policy import Policy

__version__ = "0.1.0"
__all__ = ["Dataset", "Policy", "__version__", "load_model", "train"]

_HOMES = {"load_model": "pi05.checkpoint.load", "Policy": "pi05.policy", "Dataset": "pi05.data.lerobot.reader"}


def __getattr__(name: str) -> Any:
    if name == "train":  # the room, which is a function too (`train/__init__.py`)
        return importlib.import_module("pi05.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'pi05' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
