"""The training loop: set up step by step; then stop? → batch → step → log → validate → save, until it is done.

Everything that the loop needs is built by the modules beside it; what is applied to the network from outside is applied
here. With torchrun every process runs this page; only rank 0 writes files and prints.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from pi05.checkpoint.run_folder import checkpoint_folder
from pi05.checkpoint.run_lock import RunLock
from pi05.checkpoint.store import require_checkpoint_space
from pi05.model.config import ModelConfig
from pi05.terminal import say
from pi05.train import resume
from pi05.train.activations import apply_from_outside
from pi05.train.announce import announce, checkpoint_bytes
from pi05.train.cached_prefix import cache_prefixes
from pi05.train.checked.gate import build_checked_data
from pi05.train.checkpoint import restore_state
from pi05.train.config import TrainConfig
from pi05.train.device.setup import prepare_device, prepare_environment
from pi05.train.exclusions import Place, require_compatible
from pi05.train.interrupt import Interrupted, StopRequest, listen
from pi05.train.network import choose_sizes, chosen, keep_weights, own_device
from pi05.train.optim.adamw import Ema
from pi05.train.optim.build import build_optimizer
from pi05.train.parallel.fate import one_fate
from pi05.train.parallel.placement import place_network
from pi05.train.parallel.rank_check import (
    agree_on_settings,
    check_processes,
    require_same_data_on_all,
    require_shared_folder,
)
from pi05.train.parallel.ranks import Ranks, join
from pi05.train.plan.compile_here import compiles_here
from pi05.train.plan.compile_trial import compiler_faults
from pi05.train.plan.require_memory import require_memory
from pi05.train.plan.work import count_work
from pi05.train.records.console import run_console
from pi05.train.records.destinations import build_sinks
from pi05.train.records.history import close_session, open_session
from pi05.train.records.metrics import Meter
from pi05.train.records.sinks import RunInfo, Sinks
from pi05.train.records.sources import settle_sources
from pi05.train.session import (
    Session,
    check_loss,
    deal_batches,
    first_step,
    log,
    open_loader,
    preview,
    save_run,
    settle_attention,
    validate,
)
from pi05.train.step import TrainState, loss_settings, train_step
from pi05.train.validate import build_validator
from pi05.train.watchers.base_network import require_sound_network
from pi05.train.watchers.watch import Watch
from pi05.waits import waiting


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    run_dir: Path
    steps: int
    best_error: float | None
    """Smallest held-out action error, in standard deviations; None when nothing was held out."""
    last_checkpoint: Path


def train(config: TrainConfig, *, console: bool = True) -> TrainResult:
    """Train as configured and return what was left behind.

    Raises a UserError for what the user can put right, and Interrupted (a KeyboardInterrupt) after Ctrl-C or SIGTERM,
    when the run is saved.
    """
    config = settle_sources(config)
    prepare_environment(config.deterministic)
    device = own_device(config.policy.device)
    ranks = join(device, check_processes, alone=config.parallel != "auto")
    with one_fate(ranks), compiler_faults(config.policy.compile_model):
        agreed, out = agree_on_settings(ranks, config), run_console(quiet=not console or not ranks.first)
        with RunLock(agreed.run_dir, held=ranks.first) as lock:
            return train_on(ranks, agreed, lock, out)


def train_on(ranks: Ranks, config: TrainConfig, lock: RunLock, out: Console) -> TrainResult:
    """Train as one of the processes of a run."""
    # 1. The run's folder, and the checkpoint to continue from.
    tell = partial(say, out)
    with waiting("reading the checkpoint to continue from", tell):
        run = ranks.in_turns(lambda: resume.open_run(config, lock))
    require_shared_folder(ranks, run.root)
    resume.require_batch_of_run(run, config, ranks.world_size)
    # 2. The machine.
    device = ranks.device
    require_compatible(config, Place(on_gpu=device.type != "cpu", world=ranks.world))
    prepare_device(config, device, tell)
    # 3. The data: episodes, statistics, processor, quick checks, frame cache.
    sizes = choose_sizes(config, run.base) if run.stored is None else ModelConfig.from_dict(run.stored["model"])
    data, verdict = ranks.in_turns(lambda: build_checked_data(config, sizes, out, run))
    require_same_data_on_all(ranks, data.identity())
    resume.require_data_of_run(run, data.identity())
    with waiting("predicting the memory of a step", tell):
        settled = require_memory(config, sizes, data, ranks, tell)
    compiled = compiles_here(settled, sizes, data, ranks, int(run.saved.get("step", 0)), tell)
    # 4. The network, with the base's weights or empty for those of the checkpoint; what of it is trained.
    with waiting("loading and hashing the weights", tell):
        placed = place_network(config, sizes, run, ranks)
    network, model, parameters = placed.network, placed.network.model, placed.parameters
    # 5. What moves the parameters, and the state that resume restores.
    with waiting("preparing the optimizer", tell):
        optimizer = build_optimizer(config, parameters, resume.build_schedule(config, run.saved), device)
    state = TrainState(
        step=0,
        seed=config.seed,
        model=model,
        optimizer=optimizer,
        ema=Ema(parameters, config.ema.decay) if config.ema.enable else None,
        dropout=config.draws_dropout,
        parallel=placed.parallel,
    )
    if run.continues:
        with waiting("restoring weights and moments", tell):
            restore_state(run, state, network.lora)
    # 6. What the user reads before the first step, and what a base must do before a folder is made for it.
    announce(config, run, data, network, state, device, out)
    verdict = verdict.beside(require_sound_network(config, run, data, model, placed.parallel, tell))
    # 7. The files of the run, and where its records go.
    base = resume.base_of(run)
    sinks = Sinks(build_sinks(config, run, out) if ranks.first else [])
    if ranks.first:
        resume.take_folder(run, lock)
        require_checkpoint_space(run.root, checkpoint_bytes(state, network.lora is not None), "a checkpoint")
        receipt = None if network.receipt is None else network.receipt.to_dict()
        resume.start_files(run, config, receipt, verdict.to_dict())
        if not run.continues and placed.whole is not None:
            base = keep_weights(placed.whole, config, run.base, run.root, tell)
    placed.whole = None
    ranks.meet()
    # 8. What is applied from outside.
    apply_from_outside(
        model,
        compile_layers=compiled,
        recompute_activations=settled.recomputed,
        offload_activations=config.activation_offload,
        dropout=state.dropout,
    )
    precision = placed.start()
    work = count_work(config, sizes, device)
    session = Session(
        config=config,
        run=run,
        device=device,
        sizes=sizes,
        data=data,
        state=state,
        base=base,
        lora=network.lora,
        chosen=chosen(network, config.part),
        compiled=compiled,
        frozen_precision=precision,
        work=work,
        prefixes=cache_prefixes(config, data, model, ranks, out),
        sinks=sinks,
        tell=tell,
        meter=Meter(
            total_steps=config.steps,
            train_frames=len(data.frames_of(data.train_episodes)),
            first_step=state.step,
            samples=int(run.saved.get("samples", 0)),
            clock=time.perf_counter,
            peak=work.peak,
        ),
        validator=build_validator(config, data, ranks),
        watch=Watch(config, data, state, run, sinks.log),
        best=run.saved.get("best"),
        last_saved=state.step if run.continues else -1,
    )
    info = RunInfo(
        name=config.name,
        run_dir=run.root,
        config=config.to_dict(),
        first_step=state.step,
        total_steps=config.steps,
    )
    # 9. The loop.
    session.sinks.start(info)
    if ranks.first:
        open_session(run.root, state.step, str(device))
    status = "failed"
    try:
        with listen(passed_on=ranks.several) as stop:
            stopped = loop(session, stop)
        status = "interrupted" if stopped else "finished"
    finally:
        session.sinks.finish(state.step, status)
        if ranks.first:
            close_session(run.root, state.step, status)
    last = checkpoint_folder(run.root, state.step)
    if stopped:
        say(out, f"stopped by {stop.name} after step {state.step:,}; continue with: pi05 train --resume {run.root}")
        raise Interrupted
    best = None if session.best is None else session.best["error"]
    say(out, f"done: {last}" + ("" if best is None else f"; best action error {best:.3f}"))
    return TrainResult(run_dir=run.root, steps=state.step, best_error=best, last_checkpoint=last)


def loop(session: Session, stop: StopRequest) -> bool:
    """Step until the end or until somebody asks any process to stop; leave a checkpoint of the last step.

    Returns whether it was stopped.
    """
    config, state, meter = session.config, session.state, session.meter
    ranks = state.parallel.ranks
    settings = loss_settings(config, session.data.processor.robot_action_dim)
    loader = open_loader(session)
    settle_attention(session, loader)
    dealt = deal_batches(session, loader)
    while not (stopped := stop.agreed(ranks.any)) and state.step < config.steps:
        waiting = time.perf_counter()
        given = next(dealt)
        meter.waited(time.perf_counter() - waiting)
        if state.step == 0:
            preview(session, loader, given)
        session.watch.begin(given.batches)
        with first_step(session):
            result = train_step(state, given.batches, settings)
        state.loader = given.position
        check_loss(session, result, given.origin)
        session.watch.end(result, given.batches, given.origin)
        meter.add(result, session.work.of(given.batches))
        session.sinks.tick(state.step)
        last = state.step == config.steps
        if state.step % config.log_freq == 0 or last:
            log(session)
        improved = False
        if session.validator is not None and (state.step % config.eval_steps == 0 or last):
            improved = validate(session, session.validator, partial(stop.agreed, ranks.any))
        if state.step % config.save_freq == 0 or last or improved:
            save_run(session, improved)
    if session.last_saved != state.step and state.step > 0:
        save_run(session, improved=False)
    return stopped
