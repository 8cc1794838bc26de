"""Parts of a run that the configuration alone decides: the optimizer's numbers, where records go, what is measured."""

from __future__ import annotations

from rich.console import Console

from pi05.train import run as runs
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData
from pi05.train.optimizer import AdamSettings
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


def build_sinks(config: TrainConfig, run: runs.OpenRun, console: Console) -> list[Sink]:
    """Return where records go: the file, the console, WandB where it is wanted."""
    sinks: list[Sink] = [JsonlSink(run.metrics), ConsoleSink(console)]
    if config.wandb.enable:
        sinks.append(WandbSink(config.wandb, console))
    return sinks


def build_validator(config: TrainConfig, data: TrainingData) -> Validator | None:
    """Return what measures the held-out error, if anything is held out and it is wanted."""
    if config.eval_steps == 0 or not data.held_out:
        return None
    return Validator(data, max_frames=config.eval_frames, batch_size=config.micro_batch_size())
