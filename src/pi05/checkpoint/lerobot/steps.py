"""LeRobot's processor files as they are, read strictly: every step and every setting is known, or it is an error.

Knows the steps of π₀.₅ from LeRobot 0.4.0 to 0.6.2-dev. What they mean for a policy is `read.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from pi05.checkpoint.file_fields import read_fields
from pi05.checkpoint.lerobot.fields import Pipeline
from pi05.checkpoint.lerobot.tokenizer_name import PREPROCESSOR as PREPROCESSOR
from pi05.errors import CheckpointError
from pi05.files import inside, require_regular

POSTPROCESSOR = "policy_postprocessor.json"
RENAME, RELATIVE, NORMALIZE = "rename_observations_processor", "relative_actions_processor", "normalizer_processor"
PROMPT, TOKENIZE = "pi05_prepare_state_tokenizer_processor_step", "tokenizer_processor"
UNNORMALIZE, ABSOLUTE = "unnormalizer_processor", "absolute_actions_processor"
OTHER_NAMES = {"delta_actions_processor": RELATIVE}
"""The name that LeRobot 0.5.1 and 0.5.2 registered the same step under."""

_NORMALIZER_SETTINGS = ("eps", "features", "norm_map", "normalize_observation_keys")
SETTINGS: dict[str, tuple[str, ...]] = {
    RENAME: ("rename_map",),
    "to_batch_processor": (),
    RELATIVE: ("enabled", "exclude_joints", "action_names"),
    NORMALIZE: _NORMALIZER_SETTINGS,
    PROMPT: ("max_state_dim", "task_key"),
    TOKENIZE: ("max_length", "task_key", "padding_side", "padding", "truncation", "tokenizer_name"),
    "device_processor": ("device", "float_dtype"),
    UNNORMALIZE: _NORMALIZER_SETTINGS,
    ABSOLUTE: ("enabled",),
}
"""Step → its settings. Where a step stands in `ORDER`, it must stand in that order."""
ORDER = (RENAME, RELATIVE, NORMALIZE, PROMPT, TOKENIZE, UNNORMALIZE, ABSOLUTE)

StoredStatistics = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a pipeline: its settings, and the statistics in its state file by feature and name."""

    settings: Mapping[str, Any]
    statistics: StoredStatistics = field(default_factory=dict)


def read_steps(folder: Path, name: str, needed: Sequence[str]) -> dict[str, Step]:
    """Read one of the two processor files; return its steps by today's names.

    Raises CheckpointError for a file, a step or a state file that is missing, and for a step or a setting that this
    version does not know.
    """
    listed = read_fields(folder / name, Pipeline)["steps"]
    steps: dict[str, Step] = {}
    for entry in listed:
        written = entry.get("registry_name") or entry.get("class")
        step = OTHER_NAMES.get(str(written), str(written))
        if step not in SETTINGS or step in steps:
            raise CheckpointError(
                f"{name} has a step that cannot be read" if step not in SETTINGS else f"{name} has a step twice",
                wanted=f"each once of {', '.join(SETTINGS)}",
                found=str(written),
                remedy="it changes what the policy sees or does, so it is not passed over: use LeRobot for this policy",
            )
        settings = entry.get("config") or {}
        strange = sorted(set(settings) - set(SETTINGS[step]))
        if strange:
            raise CheckpointError(
                f"the step {written} in {name} has settings that cannot be read",
                wanted=", ".join(SETTINGS[step]) or "no settings",
                found=", ".join(f"{key}={settings[key]!r}" for key in strange),
                remedy="they may change what the policy does, so they are not passed over: use LeRobot for this policy",
            )
        file = entry.get("state_file")
        steps[step] = Step(
            settings=settings,
            statistics={} if file is None else _statistics(inside(folder, file, folder / name, CheckpointError)),
        )
    absent = [step for step in needed if step not in steps]
    if absent:
        raise _damaged(folder / name, ", ".join(needed), f"no {', '.join(absent)}")
    ordered = [step for step in steps if step in ORDER]
    if ordered != sorted(ordered, key=ORDER.index):
        raise _damaged(folder / name, "the order " + ", ".join(sorted(ordered, key=ORDER.index)), ", ".join(ordered))
    return steps


def _statistics(path: Path) -> StoredStatistics:
    """Read a state file: `FEATURE.STATISTIC` → numbers, which LeRobot keeps in float32."""
    try:
        require_regular(path)
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise CheckpointError(
            "the statistics of the policy cannot be read",
            wanted=str(path),
            found="no such file" if isinstance(error, FileNotFoundError) else str(error),
            remedy="copy or download the checkpoint again, with all of its files",
        ) from error
    found: StoredStatistics = {}
    for key, tensor in tensors.items():
        feature, _, statistic = key.rpartition(".")
        found.setdefault(feature, {})[statistic] = tensor.float().double().numpy()
    return found


def _damaged(path: Path, wanted: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not that of a π₀.₅ policy",
        wanted=wanted,
        found=f"{found} in {path}",
        remedy="copy or download the checkpoint again, with all of its files",
    )
