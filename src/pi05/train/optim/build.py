"""Which optimizer a configuration means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.optim.compiled_check import of_any_process, why_not_compiled
from pi05.train.optim.kernel_check import why_no_kernel
from pi05.train.optim.low_memory import LowMemoryOptimizer, RunPortion, Way, run_now
from pi05.train.optim.protocol import Optimizer


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
    config: TrainConfig,
    parameters: Mapping[str, nn.Parameter],
    schedule: Schedule,
    device: torch.device,
    run_portion: RunPortion = run_now,
) -> Optimizer:
    """Return PyTorch's own AdamW, or ours where memory is to be saved.

    On a GPU ours runs as kernels of its own, or else compiled, or else operation by operation, and says which and why.
    On `meta`, where the planner measures, there is no host memory: moments of host memory are on `meta` too.
    """
    settings = adam_settings(config)
    if not config.own_optimizer:
        return AdamW(parameters, settings, schedule)
    way: Way = "plain"
    weights = torch.bfloat16 if config.precision == "bf16-sr" else torch.float32
    against_kernel, against_compiling = None, None
    if device.type == "cuda":
        way = "kernel"
        against_kernel = of_any_process(why_no_kernel(device, config.optimizer_state, weights))
        if against_kernel is not None:
            against_compiling = of_any_process(
                why_not_compiled(device, config.optimizer_state, weights, config.gradient_release)
            )
            way = "compiled" if against_compiling is None else "plain"
    optimizer = LowMemoryOptimizer(
        parameters,
        settings,
        schedule,
        seed=config.seed,
        state=config.optimizer_state,
        offload=config.optimizer_offload and device.type != "meta",
        release=config.gradient_release,
        way=way,
        run_portion=run_portion,
    )
    optimizer.why_no_kernel, optimizer.why_not_compiled = against_kernel, against_compiling
    return optimizer
