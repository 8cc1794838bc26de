"""A run in progress, and what the loop does with it: fetch, check, log, validate, save.

Leaves out the order of these (`loop.py`) and the step itself (`step.py`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

import pi05
from pi05.data.prefix_cache import PrefixCache
from pi05.model.config import ModelConfig
from pi05.train import checkpoint, resume
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData, build_loader
from pi05.train.faults import BatchOrigin, require_finite_on_all
from pi05.train.lora import LoraPlan
from pi05.train.plan.work import WorkCount
from pi05.train.preview import write_preview
from pi05.train.records.metrics import Meter, render_duration
from pi05.train.records.sinks import Sinks
from pi05.train.step import StepResult, TrainState
from pi05.train.validate import Validator
from pi05.types import Batch


@dataclass(kw_only=True)
class Session:
    """A run in progress: what was built once, and what changes."""

    config: TrainConfig
    run: resume.OpenRun
    device: torch.device
    sizes: ModelConfig
    data: TrainingData
    state: TrainState
    base: dict[str, str] | None
    lora: LoraPlan | None
    frozen_precision: str
    work: WorkCount
    prefixes: PrefixCache | None
    sinks: Sinks
    meter: Meter
    validator: Validator | None
    best: dict[str, float] | None = None
    last_saved: int = -1
    unchecked: deque[tuple[StepResult, BatchOrigin]] = field(default_factory=deque)


def fetch(session: Session) -> Iterator[tuple[list[Batch], BatchOrigin]]:
    """Yield the forward passes of one step after the other, on the device; the first ones are drawn as pictures."""
    config, state = session.config, session.state
    ranks = state.parallel.ranks
    pin = session.device.type == "cuda"
    loader = build_loader(config, session.data, ranks.rank, ranks.world_size, pin, session.prefixes)
    if state.loader:
        loader.load_state_dict(state.loader)
    stream = iter(loader)
    preview = session.run.folder is None and ranks.first
    while True:
        pairs = [next(stream) for _ in range(config.gradient_accumulation_steps)]
        if preview:
            shown, frames = pairs[0][0], pairs[0][1].frame_indices.tolist()
            shown = shown if shown.prefix is None else loader.batch(frames)
            write_preview(session.run.root / resume.PREVIEW, shown, frames, session.data)
            preview = False
        state.loader = loader.state_dict()
        origin = BatchOrigin(
            frames=[int(frame) for _, info in pairs for frame in info.frame_indices],
            episodes=[int(episode) for _, info in pairs for episode in info.episodes],
        )
        yield [batch.to(session.device, non_blocking=True) for batch, _ in pairs], origin


def check(session: Session, result: StepResult, origin: BatchOrigin) -> None:
    """Stop the run at a loss that is not finite; on a GPU one step late, so that nobody waits for it."""
    session.unchecked.append((result, origin))
    settle(session, behind=0 if session.device.type == "cpu" else 1)


def settle(session: Session, behind: int = 0) -> None:
    """Check all but the last `behind` steps that were not checked yet."""
    while len(session.unchecked) > behind:
        ranks = session.state.parallel.ranks
        require_finite_on_all(*session.unchecked.popleft(), session.data.dataset.action_names, ranks)


def log(session: Session) -> None:
    """Send the metrics since the last time."""
    settle(session)
    session.sinks.log(session.meter.record(session.state.optimizer.parameters, session.state.parallel.ranks))


def validate(session: Session, validator: Validator) -> bool:
    """Measure the held-out action error with the weights that are saved; return whether it is the best so far."""
    settle(session)
    started = time.perf_counter()
    state = session.state
    if state.ema is None:
        error = validator.measure(state.model, session.device)
    else:
        with state.ema.in_place():
            error = validator.measure(state.model, session.device)
    improved = state.parallel.ranks.from_first(session.best is None or error.score < session.best["error"])
    if improved:
        session.best = {"error": error.score, "step": state.step}
    session.sinks.log(error.record(state.step, improved))
    session.meter.paused(time.perf_counter() - started)
    return improved


def save(session: Session, improved: bool) -> None:
    """Write a checkpoint."""
    settle(session)
    started = time.perf_counter()
    data = session.data
    folder = checkpoint.save(
        session.run,
        session.state,
        config={
            "model": session.sizes.to_dict(),
            "processor": data.processor.to_dict(),
            "base": session.base,
            **({} if session.lora is None else {"adapter": True, "frozen_precision": session.frozen_precision}),
            "pi05_version": pi05.__version__,
            "fps": data.dataset.fps,
            "n_action_steps": session.config.policy.steps_to_execute(session.sizes.horizon),
            "statistics": data.statistics.sha256,
        },
        processor=data.processor,
        extra={
            "samples": session.meter.samples,
            "samples_per_step": session.config.samples_per_step(session.state.parallel.ranks.world_size),
            "best": session.best,
            "data": data.identity(),
        },
        keep=session.config.keep_checkpoints,
        best=improved,
        lora=session.lora,
    )
    session.last_saved = session.state.step
    seconds = time.perf_counter() - started
    text = f"saved {folder} in {render_duration(seconds)}"
    session.sinks.log({"type": "save", "step": session.state.step, "seconds": seconds, "best": improved, "text": text})
    session.meter.paused(time.perf_counter() - started)
