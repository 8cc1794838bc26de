"""Which optimizer a configuration means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.optim.compiled_check import of_any_process, why_not_compiled
from pi05.train.optim.kernel_check import why_no_kernel
from pi05.train.optim.kernel_update import Launches
from pi05.train.optim.low_memory import LowMemoryOptimizer, RunPortion, run_now
from pi05.train.optim.protocol import Optimizer
from pi05.train.optim.way import Way, choose_way
from pi05.triton_here import why_no_triton


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
) -> Optimizer:
    """Return PyTorch's own AdamW, or ours where memory is to be saved.

    On a GPU ours runs as kernels of its own, or else compiled, or else operation by operation, and says which and why.
    """
    if not config.own_optimizer:
        return AdamW(parameters, adam_settings(config), schedule)
    weights = matrix_dtype(config)

    def refuses(way: Way) -> str | None:
        """Try a way on this device; the reason of any process counts for all."""
        if (reason := why_no_triton()) is None and way == "kernel":
            reason = why_no_kernel(device, config.optimizer_state, weights)
        elif reason is None:
            reason = why_not_compiled(device, config.optimizer_state, weights, config.gradient_release)
        return of_any_process(reason)

    chosen = choose_way(device.type == "cuda", refuses)
    optimizer = build_low_memory(config, parameters, schedule, way=chosen.way, offload=config.optimizer_offload)
    optimizer.why_no_kernel, optimizer.why_not_compiled = chosen.why_no_kernel, chosen.why_not_compiled
    return optimizer


def build_low_memory(
    config: TrainConfig,
    parameters: Mapping[str, nn.Parameter],
    schedule: Schedule,
    *,
    way: Way,
    offload: bool,
    run_portion: RunPortion = run_now,
    launches: Launches | None = None,
) -> LowMemoryOptimizer:
    """Return the optimizer that saves memory, its way decided already."""
    return LowMemoryOptimizer(
        parameters,
        adam_settings(config),
        schedule,
        seed=config.seed,
        state=config.optimizer_state,
        offload=offload,
        release=config.gradient_release,
        way=way,
        run_portion=run_portion,
        launches=launches,
    )


def matrix_dtype(config: TrainConfig) -> torch.dtype:
    """Return the precision that matrices are trained in; vectors are in float32."""
    return torch.bfloat16 if config.precision == "bf16-sr" else torch.float32
