"""LeRobot's processors of a π₀.₅ policy, written: two JSON files and the statistics that they name.

Step names and fields are those that all of `write.VERSIONS` know (LeRobot `processor_pi05.py`, `processor/*.py`).
0.6.1 resolves a `tokenizer_name` that is a path against the working directory, 0.6.2-dev against the folder: an
absolute path suits both, until the folder moves (`relocate`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from pi05.checkpoint.foreign_statistics import lerobot_statistics
from pi05.checkpoint.lerobot.steps import (
    ABSOLUTE,
    NORMALIZE,
    POSTPROCESSOR,
    PREPROCESSOR,
    PROMPT,
    RELATIVE,
    RENAME,
    TOKENIZE,
    UNNORMALIZE,
)
from pi05.checkpoint.lerobot.write import Cameras, input_features, output_features
from pi05.checkpoint.safetensors_writer import LazyTensor, write_safetensors
from pi05.data.processor import Processor
from pi05.data.transforms import LEROBOT_EPS
from pi05.files import write_json
from pi05.types import ACTION, STATE, TASK

PRE_STATISTICS = "policy_preprocessor_step_3_normalizer_processor.safetensors"
POST_STATISTICS = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
TOKENIZER_FOLDER = "tokenizer"
_DEVICE = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
"""LeRobot's commands override the device."""


def write_pipelines(folder: Path, processor: Processor, *, cameras: Cameras, tokenizer_name: str) -> None:
    """Write both processors and their statistics into `folder`."""
    exclude, names = relative_words(processor)
    relative = processor.relative_mask is not None
    norm_map = {"VISUAL": "IDENTITY", **processor.normalization}
    inputs, outputs = input_features(processor, cameras), output_features(processor)
    steps = [
        {"registry_name": RENAME, "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {
            "registry_name": RELATIVE,
            "config": {"enabled": relative, "exclude_joints": exclude, "action_names": names},
        },
        {
            "registry_name": NORMALIZE,
            "config": {"eps": LEROBOT_EPS, "features": {**inputs, **outputs}, "norm_map": norm_map},
            "state_file": PRE_STATISTICS,
        },
        {"registry_name": PROMPT, "config": {}},
        {
            "registry_name": TOKENIZE,
            "config": {
                "max_length": processor.max_prompt_tokens,
                "task_key": TASK,
                "padding_side": "right",
                "padding": "max_length",
                "truncation": True,
                "tokenizer_name": tokenizer_name,
            },
        },
        _DEVICE,
    ]
    write_json(folder / PREPROCESSOR, {"name": "policy_preprocessor", "steps": steps})
    after = [
        {
            "registry_name": UNNORMALIZE,
            "config": {"eps": LEROBOT_EPS, "features": outputs, "norm_map": norm_map},
            "state_file": POST_STATISTICS,
        },
        {"registry_name": ABSOLUTE, "config": {"enabled": relative}},
        _DEVICE,
    ]
    write_json(folder / POSTPROCESSOR, {"name": "policy_postprocessor", "steps": after})
    for name in (PRE_STATISTICS, POST_STATISTICS):
        write_safetensors(folder / name, _statistics(processor))


def _statistics(processor: Processor) -> dict[str, LazyTensor]:
    tensors = {}
    for key, kind, stats in (
        (STATE, "STATE", processor.state_stats),
        (ACTION, "ACTION", processor.action_stats),
    ):
        values = lerobot_statistics(stats, processor.normalization[kind], processor.formula)
        for name, numbers in values.items():
            tensors[f"{key}.{name}"] = LazyTensor.of(torch.from_numpy(numbers).float())
        if stats.count:
            tensors[f"{key}.count"] = LazyTensor.of(torch.tensor([float(stats.count)]))
    return tensors


def relative_words(processor: Processor) -> tuple[list[str], list[str] | None]:
    """Return the words and action names with which LeRobot's rule gives the policy's relative dimensions.

    LeRobot keeps a dimension absolute when its name contains one of the words, in any case. Where no names of the
    policy give the right dimensions, numbered ones do, which LeRobot uses for nothing else.
    """
    names = list(processor.action_names) if len(processor.action_names) == processor.robot_action_dim else None
    if processor.relative_mask is None:
        return ["gripper"], names
    mask = list(processor.relative_mask)
    if all(mask):
        return [], names
    numbered = [f"{i:03d}/{name}" for i, name in enumerate(names or [""] * len(mask))]
    absolute = [i for i, relative in enumerate(mask) if not relative]
    candidates: list[tuple[list[str], list[str]]] = []
    if names is not None:
        candidates = [(["gripper"], names), ([names[i] for i in absolute], names)]
    candidates.append(([f"{i:03d}/" for i in absolute], numbered))
    for words, labels in candidates:
        if [not any(word.lower() in label.lower() for word in words) for label in labels] == mask:
            return words, labels
    plain = [f"{i:03d}/" for i in range(len(mask))]
    return [plain[i] for i in absolute], plain
