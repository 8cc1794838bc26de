"""Where the records of a run go."""

from __future__ import annotations

from rich.console import Console

from pi05.train.config import TrainConfig
from pi05.train.records.sinks import ConsoleSink, JsonlSink, Sink
from pi05.train.records.trackio import TrackioSink
from pi05.train.records.wandb import WandbSink
from pi05.train.resume import OpenRun


def build_sinks(config: TrainConfig, run: OpenRun, console: Console) -> list[Sink]:
    """Return where records go: the file, the console, the trackers that are wanted."""
    sinks: list[Sink] = [JsonlSink(run.metrics), ConsoleSink(console)]
    if config.wandb.enable:
        sinks.append(WandbSink(config.wandb, console))
    if config.trackio.enable:
        sinks.append(TrackioSink(config.trackio, console))
    return sinks
