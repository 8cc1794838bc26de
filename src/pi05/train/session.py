"""A run in progress, and what the loop does with it: deal batches, preview, check, log, validate, save a checkpoint.

Leaves out the order of these (`loop.py`) and the step itself (`step.py`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

import pi05
from pi05.data.loader import TrainLoader
from pi05.data.prefix_cache import PrefixCache
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.train import resume
from pi05.train.checkpoint import save_state
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData, build_loader
from pi05.train.device.attention_cases import StepLengths, cases_of
from pi05.train.device.attention_probe import probe_attention
from pi05.train.device.varlen import flash_varlen, why_no_varlen
from pi05.train.faults import BatchOrigin, UncheckedStep
from pi05.train.lora import LoraPlan
from pi05.train.network import compute_dtype
from pi05.train.plan.work import WorkCount
from pi05.train.preview import write_preview
from pi05.train.records.durations import duration
from pi05.train.records.metrics import Meter
from pi05.train.records.sinks import Sinks
from pi05.train.step import StepResult, TrainState
from pi05.train.validate import Validator
from pi05.train.watchers.watch import Watch
from pi05.types import Batch
from pi05.waits import waiting


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
    chosen: Mapping[str, Tensor]
    """What the settings ask to train, by name, the little that nothing reads included: the norm of it is logged."""
    frozen_precision: str
    work: WorkCount
    prefixes: PrefixCache | None
    sinks: Sinks
    tell: Callable[[str], None]
    """Takes a line for the console."""
    meter: Meter
    validator: Validator | None
    watch: Watch
    compiled: bool = False
    """Whether the layers are compiled, in the first step."""
    best: dict[str, float] | None = None
    last_saved: int = -1
    unchecked: deque[UncheckedStep] = field(default_factory=deque)


@dataclass(frozen=True, kw_only=True)
class StepData:
    """What one optimizer step works on: the batches of its forward passes (gradient accumulation: several)."""

    batches: list[Batch]
    """On the device."""
    origin: BatchOrigin
    position: dict[str, int]
    """Of the loader, behind these batches: what a checkpoint after this step continues from."""


def deal_batches(session: Session, loader: TrainLoader) -> Iterator[StepData]:
    """Yield the data of one step after the other, on the device, from the loader's position on."""
    stream = iter(loader)
    while True:
        pairs = [next(stream) for _ in range(session.config.gradient_accumulation_steps)]
        origin = BatchOrigin(
            frames=[int(frame) for _, info in pairs for frame in info.frame_indices],
            episodes=[int(episode) for _, info in pairs for episode in info.episodes],
        )
        yield StepData(
            batches=[batch.to(session.device, non_blocking=True) for batch, _ in pairs],
            origin=origin,
            position=loader.state_dict(),
        )


def open_loader(session: Session) -> TrainLoader:
    """Return the loader at the position that the run has reached."""
    ranks = session.state.parallel.ranks
    pin = session.device.type == "cuda"
    loader = build_loader(session.config, session.data, ranks.rank, ranks.world_size, pin, session.prefixes)
    if session.state.loader:
        loader.load_state_dict(session.state.loader)
    return loader


def settle_attention(session: Session, loader: TrainLoader) -> None:
    """Find out which kernels attention gets and whether they are right, before the first step; say so."""
    config, ranks = session.config, session.state.parallel.ranks
    shortest, longest = loader.prompt_lengths
    lengths = StepLengths(
        batch=config.micro_batch_size(ranks.world_size),
        cameras=len(session.data.processor.slots.keys),
        shortest=shortest,
        longest=longest,
        bucket=loader.bucket,
        flow_samples=config.flow_samples,
        cached_prefix=config.cache_prefix,
    )
    with waiting("looking at the kernels of attention", session.tell):
        cases, dtype = cases_of(session.sizes, lengths), compute_dtype(config.precision)
        why_masked = why_no_varlen(session.device, dtype, session.sizes.head_dim)
        varlen = None if why_masked is not None else flash_varlen()
        probe = probe_attention(cases, session.device, dtype, config.allow, ranks, varlen)
    model = session.state.model
    if isinstance(model, Pi05):
        model.varlen = varlen if probe.packed is not None else None
    for sentence in probe.switched_off:
        session.tell(f"attention: {sentence}")
    session.tell(probe.line())
    if why_masked is not None and session.device.type == "cuda" and any(case.masked for case in cases):
        session.tell(f"attention: keys are masked, not packed: {why_masked}")


def preview(session: Session, loader: TrainLoader, first: StepData) -> None:
    """Draw what the network is given in the first forward pass of a new run; only rank 0 does."""
    if session.run.continues or not session.state.parallel.ranks.first:
        return
    started = time.perf_counter()
    batch = first.batches[0]
    frames = first.origin.frames[: len(batch.tokens)]
    shown = loader.batch(frames) if batch.prefix is not None else batch.to(torch.device("cpu"))
    write_preview(session.run.root / resume.PREVIEW, shown, frames, session.data)
    session.meter.paused(time.perf_counter() - started)


def first_step(session: Session) -> AbstractContextManager[None]:
    """Say what the first step of a session waits for; the others take no time beyond their own."""
    if session.meter.steps:
        return nullcontext()
    return waiting("compiling the network for the first step" if session.compiled else "the first step", session.tell)


def check_loss(session: Session, result: StepResult, origin: BatchOrigin) -> None:
    """Stop the run at a loss that is not finite; on a GPU one step late, so that nobody waits for it."""
    session.unchecked.append(UncheckedStep(result, origin))
    settle(session, behind=0 if session.device.type == "cpu" else 1)


def settle(session: Session, behind: int = 0) -> None:
    """Check all but the last `behind` steps that were not checked yet."""
    while len(session.unchecked) > behind:
        ranks = session.state.parallel.ranks
        session.unchecked.popleft().require_finite(session.data.dataset.action_names, ranks)


def log(session: Session) -> None:
    """Send the metrics since the last time."""
    settle(session)
    session.sinks.log(session.meter.record(session.chosen, session.state.parallel.ranks))
    session.watch.read()


def validate(session: Session, validator: Validator, stopped: Callable[[], bool]) -> bool:
    """Measure the held-out action error with the weights that are saved; return whether it is the best so far.

    A run that is `stopped` meanwhile does not wait for the rest of the measurement, which then counts for nothing.
    """
    settle(session)
    started = time.perf_counter()
    state = session.state
    averaged = nullcontext() if state.ema is None else state.ema.in_place()
    with averaged, waiting("measuring the held-out action error", session.tell):
        error = validator.measure(state.model, session.device, stopped)
    session.meter.paused(time.perf_counter() - started)
    if error is None:
        return False
    improved = state.parallel.ranks.from_first(session.best is None or error.score < session.best["error"])
    if improved:
        session.best = {"error": error.score, "step": state.step}
    session.sinks.log(error.record(state.step, improved))
    session.watch.measured(error)
    return improved


def save_run(session: Session, improved: bool) -> None:
    """Write a checkpoint."""
    settle(session)
    started = time.perf_counter()
    session.watch.before_saving()
    data = session.data
    with waiting("saving a checkpoint", session.tell):
        folder = save_state(
            session.run,
            session.state,
            config={
                "model": session.sizes.to_dict(),
                "processor": data.processor.to_dict(),
                "base": session.base,
                **({} if session.lora is None else {"adapter": True, "frozen_precision": session.frozen_precision}),
                "pi05_version": pi05.__version__,
                "fps": data.dataset.fps,
                **({"rtc_max_delay": session.config.rtc_max_delay} if session.config.rtc_max_delay else {}),
                "n_action_steps": session.config.policy.steps_to_execute(session.sizes.horizon, data.dataset.fps),
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
            best_step=None if session.best is None else int(session.best["step"]),
            lora=session.lora,
        )
    session.last_saved = session.state.step
    seconds = time.perf_counter() - started
    text = f"saved {folder} in {duration(seconds)}"
    session.sinks.log({"type": "save", "step": session.state.step, "seconds": seconds, "best": improved, "text": text})
    session.meter.paused(time.perf_counter() - started)
