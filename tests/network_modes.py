"""The ways in which a network may compute: as it is, or with recomputed activations."""

from __future__ import annotations

from pi05.model.pi05 import Pi05
from pi05.train.acceleration import apply_from_outside

MODES = ("as it is", "selective", "recomputed")
"""Every mode must give the peers' numbers. Compiled layers are compared in `unit/train/test_step.py`."""


def in_mode(model: Pi05, mode: str) -> Pi05:
    """Apply a mode to a network and return it."""
    degree = {"selective": "selective", "recomputed": 1.0}.get(mode, 0.0)
    apply_from_outside(model, compile_layers=False, recompute_activations=degree)
    return model
