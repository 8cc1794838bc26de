"""LeRobot's π₀.₅ folder, written: weights under its 813 names, `config.json`, statistics and processors.

Only fields and steps that all of `VERSIONS` know are written: each refuses a config.json with a field that it does not
know. Processors are in `write_steps.py`; what a LeRobot policy cannot express is refused, what it does
otherwise is told. Facts: LeRobot `configuration_pi05.py`, `modeling_pi05.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pi05.checkpoint.foreign_statistics import COARSE, lerobot_statistics, rounding
from pi05.checkpoint.lerobot.names import PREFIX, QUERY_HEADS, lerobot_layout
from pi05.checkpoint.openpi.names import EMBEDDING, EXPERT_HEAD, LANGUAGE_HEAD
from pi05.checkpoint.safetensors_writer import LazyTensor
from pi05.data.processor import Processor
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig, pi05
from pi05.model.pi05 import Pi05
from pi05.types import ACTION, STATE

METADATA = {"format": "pt"}
VERSIONS = ("0.6.0", "0.6.1", "0.6.2-dev")
"""LeRobot's versions that an export is made for, whose fields and steps are in `tests/golden/lerobot_configs`. Those of
0.7 are not known by name; by its release notes it took none of these away."""
STATE_DIM = 32
"""LeRobot's `max_state_dim`; the number is in the file and decides nothing for π₀.₅."""
_HALF = re.compile(r"lm_head|\.(language_model|gemma_expert\.model)\.(embed_tokens|layers\.\d+\.(self_attn|mlp))\b")
"""What LeRobot keeps in bfloat16 with dtype=bfloat16; norms, vision and projections stay float32."""

TRAINING_DEFAULTS: dict[str, Any] = {
    "gradient_checkpointing": False,
    "compile_model": False,
    "compile_mode": "max-autotune",
    "freeze_vision_encoder": False,
    "train_expert_only": False,
    "optimizer_lr": 2.5e-05,
    "optimizer_betas": [0.9, 0.95],
    "optimizer_eps": 1e-08,
    "optimizer_weight_decay": 0.01,
    "optimizer_grad_clip_norm": 1.0,
    "scheduler_warmup_steps": 1000,
    "scheduler_decay_steps": 30000,
    "scheduler_decay_lr": 2.5e-06,
}
"""LeRobot's defaults for training on; an exported policy has no say in it."""

Cameras = Mapping[str, tuple[int, int]]
"""Camera → height and width in pixels."""


def require_expressible(processor: Processor) -> None:
    """Raise CheckpointError for a policy that LeRobot's π₀.₅ cannot be."""
    if processor.prompt_format != "state":
        raise CheckpointError(
            "LeRobot cannot run this policy: it always writes the unpadded state into the prompt",
            wanted="a policy with --prompt_format state",
            found=f"prompt format {processor.prompt_format}",
            remedy="export --to openpi (which knows prompts without a state) or --to pi05, "
            "or train with --prompt_format state",
        )
    if processor.relative_mask is not None and processor.state_dim < processor.robot_action_dim:
        raise CheckpointError(
            "LeRobot cannot run this policy: its relative actions need a state number for every action dimension",
            wanted=f"{processor.robot_action_dim} state numbers or more",
            found=str(processor.state_dim),
            remedy="export --to openpi or --to pi05, or train on absolute actions",
        )


def differences(processor: Processor, sizes: ModelConfig, n_action_steps: int) -> list[str]:
    """Return what LeRobot will do otherwise than the policy was trained for, as sentences; but for its resize."""
    notes = []
    free = {name: getattr(sizes, name) for name in ("horizon", "max_prompt_tokens", "action_dim")}
    if replace(pi05(), **free) != sizes:
        notes.append(
            "LeRobot builds gemma_2b with gemma_300m; this network has other sizes, so LeRobot prints a warning and "
            "runs with random weights, unless its sizes are patched first (benchmarks/interop_lerobot.py does)"
        )
    if sizes.num_heads != QUERY_HEADS:
        notes.append(f"LeRobot has {QUERY_HEADS} query heads built in; this network has {sizes.num_heads}")
    if processor.relative_mask is not None and n_action_steps > 1:
        notes.append(
            "LeRobot adds the newest state to a relative action, not the state at the chunk's start: lerobot-eval "
            "drifts with n_action_steps above 1, lerobot-rollout wants --inference.type=rtc for relative actions"
        )
    for kind, stats in (("STATE", processor.state_stats), ("ACTION", processor.action_stats)):
        mode = processor.normalization[kind]
        moved = rounding(lerobot_statistics(stats, mode, processor.formula), mode)
        notes.extend(
            f"{kind.lower()} dimension {i} has a range so narrow and so far from zero that LeRobot's float32 "
            f"statistics move its normalised values by up to {moved[i]:.2g}"
            for i in np.flatnonzero(moved > COARSE).tolist()
        )
    return notes


def lerobot_tensors(model: Pi05, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """Return the weight file's content. The two dead heads are there, so that LeRobot finds every key."""
    config = model.config
    parameters = dict(model.named_parameters())
    tensors = {}
    for name, (target,) in lerobot_layout(config.depth, config.vision_depth).targets.items():
        value = parameters[target.name].detach()
        tensors[name] = LazyTensor.changed(value, target.to_foreign, lerobot_dtype(name, dtype))
    head, expert_head = PREFIX + LANGUAGE_HEAD, PREFIX + EXPERT_HEAD
    tensors[head] = tensors[PREFIX + EMBEDDING]
    shape = (config.vocab_size, config.expert_width)
    tensors[expert_head] = LazyTensor(shape, lerobot_dtype(expert_head, dtype), lambda: torch.zeros(shape))
    return tensors


def lerobot_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the precision in which LeRobot stores a tensor of a policy of this `dtype`."""
    return dtype if _HALF.search(name) else torch.float32


def input_features(processor: Processor, cameras: Cameras) -> dict[str, Any]:
    """Return LeRobot's input features: cameras in slot order, the state, the empty cameras."""
    side = processor.image_size
    features: dict[str, Any] = {}
    for key in processor.slots.keys:
        features[key] = {"type": "VISUAL", "shape": [3, *cameras.get(key, (side, side))]}
    features[STATE] = {"type": "STATE", "shape": [processor.state_dim]}
    for i in range(empty_cameras(processor)):
        features[f"observation.images.empty_camera_{i}"] = {"type": "VISUAL", "shape": [3, side, side]}
    return features


def output_features(processor: Processor) -> dict[str, Any]:
    """Return LeRobot's output features: the action."""
    return {ACTION: {"type": "ACTION", "shape": [processor.robot_action_dim]}}


def empty_cameras(processor: Processor) -> int:
    """Return how many camera slots are empty; LeRobot pads with as many masked pictures."""
    return len(processor.slots.by_slot) - len(processor.slots.keys)


def lerobot_config(
    processor: Processor,
    *,
    n_action_steps: int,
    cameras: Cameras,
    dtype: torch.dtype,
    exclude: list[str],
    use_peft: bool = False,
) -> dict[str, Any]:
    """Return `config.json`. The settings of training are LeRobot's defaults.

    `device` is what LeRobot tries first; where there is no GPU it takes another with a warning.
    """
    return {
        "type": "pi05",
        "n_obs_steps": 1,
        "input_features": input_features(processor, cameras),
        "output_features": output_features(processor),
        "device": "cuda",
        "use_amp": False,
        "use_peft": use_peft,
        "push_to_hub": False,
        "repo_id": None,
        "private": None,
        "tags": None,
        "license": None,
        "pretrained_path": None,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": str(dtype).removeprefix("torch."),
        "chunk_size": processor.horizon,
        "n_action_steps": n_action_steps,
        "max_state_dim": max(STATE_DIM, processor.state_dim),
        "max_action_dim": processor.action_dim,
        "num_inference_steps": 10,
        "time_sampling_beta_alpha": 1.5,
        "time_sampling_beta_beta": 1.0,
        "time_sampling_scale": 0.999,
        "time_sampling_offset": 0.001,
        "min_period": 0.004,
        "max_period": 4.0,
        "use_relative_actions": processor.relative_mask is not None,
        "relative_exclude_joints": exclude,
        "action_feature_names": list(processor.action_names) or None,
        "rtc_config": None,
        "image_resolution": [processor.image_size, processor.image_size],
        "empty_cameras": empty_cameras(processor),
        "tokenizer_max_length": processor.max_prompt_tokens,
        "normalization_mapping": {"VISUAL": "IDENTITY", **processor.normalization},
        **TRAINING_DEFAULTS,
    }
