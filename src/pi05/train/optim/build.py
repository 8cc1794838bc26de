"""Which optimizer a configuration means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from pi05.errors import ConfigError
from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import AdamSettings, Optimizer, Schedule
from pi05.train.optim.compiled_check import of_any_process, why_not_compiled
from pi05.train.optim.low_memory import LowMemoryOptimizer


def adam_settings(config: TrainConfig) -> AdamSettings:
    """Return AdamW's numbers."""
    policy = config.policy
    return AdamSettings(
        betas=policy.optimizer_betas,
        eps=policy.optimizer_eps,
        weight_decay=policy.optimizer_weight_decay,
        clip_norm=policy.optimizer_grad_clip_norm,
    )


def build_optimizer(
    config: TrainConfig, parameters: Mapping[str, nn.Parameter], schedule: Schedule, device: torch.device
) -> Optimizer | LowMemoryOptimizer:
    """Return PyTorch's own AdamW, or ours where memory is to be saved.

    Raises ConfigError for moments in host memory on a device that has no other.
    """
    if config.optimizer_offload and device.type == "cpu":
        raise ConfigError(
            "--optimizer_offload has nothing to do on the CPU",
            wanted="a GPU, whose memory it spares",
            found=str(device),
            remedy="leave --optimizer_offload out; --optimizer_state=8bit saves memory here too",
        )
    settings = adam_settings(config)
    saves = config.precision == "bf16-sr" or config.optimizer_state != "float32"
    if not (saves or config.optimizer_offload or config.gradient_release):
        return Optimizer(parameters, settings, schedule)
    on_gpu = device.type == "cuda"
    weights = torch.bfloat16 if config.precision == "bf16-sr" else torch.float32
    reason = None
    if on_gpu:
        reason = of_any_process(why_not_compiled(device, config.optimizer_state, weights, config.gradient_release))
    optimizer = LowMemoryOptimizer(
        parameters,
        settings,
        schedule,
        seed=config.seed,
        state=config.optimizer_state,
        offload=config.optimizer_offload,
        release=config.gradient_release,
        compiled=on_gpu and reason is None,
    )
    optimizer.why_not_compiled = reason
    return optimizer
