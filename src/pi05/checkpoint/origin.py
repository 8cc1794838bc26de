"""Where weights come from, in one line for people: the folder, who wrote it, at which step, by which method.

Nothing depends on it; what cannot be told is left out.
"""

from __future__ import annotations

from typing import Any

from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.locate import Location
from pi05.checkpoint.store import read_checkpoint_config
from pi05.errors import UserError, visible
from pi05.files import read_notes

WRITERS = {
    "pi05": "pi05",
    "lerobot": "LeRobot",
    "openpi": "openpi, PyTorch",
    "jax": "openpi, JAX",
    "file": "a file of weights",
}


def tell_origin(location: Location) -> str:
    """Return for example `runs/first/checkpoints/last (pi05), step 5,000, method lora`."""
    step = _step(location)
    parts = [f"{location.given} ({WRITERS[location.kind]})"]
    parts += [] if step is None else [f"step {step:,}"]
    parts.append(f"method {_method(location)}")
    return visible(", ".join(parts))


def _step(location: Location) -> int | None:
    if location.kind == "pi05":
        try:
            step = read_checkpoint_config(location.folder).get("step")
        except UserError:
            return None
        return step if type(step) is int else None
    named = [part for part in (location.folder.name, location.folder.parent.name) if part.isdigit()]
    return int(named[0]) if named and location.kind != "file" else None


def _method(location: Location) -> str:
    """Return what was trained, as `--method` calls it where the run's own settings are there."""
    policy = _run_settings(location)
    if policy is None:
        return "lora" if location.adapter is not None else "not told"
    if policy.get("use_peft"):
        return "qlora" if policy.get("quantize") not in (None, "none") else "lora"
    if policy.get("train_expert_only"):
        return "expert"
    return "frozen-vision" if policy.get("freeze_vision_encoder") else "full"


def _run_settings(location: Location) -> dict[str, Any] | None:
    if location.kind != "pi05" or location.folder.parent.name != "checkpoints":
        return None
    settings = read_notes(
        location.folder.parent.parent / CONFIG
    )  # empty where the checkpoint was copied out of its run
    policy, peft = settings.get("policy"), settings.get("peft")
    if not isinstance(policy, dict) or not isinstance(peft, dict):
        return None
    return {**policy, "quantize": peft.get("quantize")}
