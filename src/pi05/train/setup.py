"""Parts of a run that the configuration alone decides: the optimizer, where records go, what is measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from rich.console import Console
from torch import nn

from pi05.errors import ConfigError
from pi05.train import run as runs
from pi05.train.compiled_check import of_any_process, why_not_compiled
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData
from pi05.train.low_memory import LowMemoryOptimizer
from pi05.train.optimizer import AdamSettings, Optimizer, Schedule
from pi05.train.ranks import Ranks
from pi05.train.sinks import ConsoleSink, JsonlSink, Sink
from pi05.train.validate import Validator
from pi05.train.wandb_sink import WandbSink


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


def build_sinks(config: TrainConfig, run: runs.OpenRun, console: Console) -> list[Sink]:
    """Return where records go: the file, the console, WandB where it is wanted."""
    sinks: list[Sink] = [JsonlSink(run.metrics), ConsoleSink(console)]
    if config.wandb.enable:
        sinks.append(WandbSink(config.wandb, console))
    return sinks


def build_validator(config: TrainConfig, data: TrainingData, ranks: Ranks) -> Validator | None:
    """Return what measures the held-out error, if anything is held out and it is wanted."""
    if config.eval_steps == 0 or not data.held_out:
        return None
    size = config.micro_batch_size(ranks.world_size)
    return Validator(data, max_frames=config.eval_frames, batch_size=size, ranks=ranks)
