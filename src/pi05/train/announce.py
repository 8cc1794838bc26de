"""What a user reads before the first step: weights, parameters, how much data each step sees, what it needs on disk."""

from __future__ import annotations

import shutil

import torch
from rich.console import Console

from pi05.data.lerobot.reader import Dataset
from pi05.data.libero import rate_note
from pi05.model.pi05 import Pi05
from pi05.terminal import say
from pi05.train.config import TrainConfig
from pi05.train.data import PreparedData, TrainingData
from pi05.train.inputs.dataset import DEFAULT_EXCLUSION
from pi05.train.lora import LoraPlan, lora_table
from pi05.train.network import Network
from pi05.train.optim.adamw import Schedule
from pi05.train.parallel.split import Parallel, bytes_on_rank
from pi05.train.parameters import parameter_table
from pi05.train.resume import OpenRun, schedule_notice
from pi05.train.step import TrainState
from pi05.train.validate import announce_held_out
from pi05.train.watchers.trends import faster_average, start_share


def announce(
    config: TrainConfig,
    run: OpenRun,
    data: TrainingData,
    network: Network,
    state: TrainState,
    device: torch.device,
    console: Console,
) -> None:
    """Print everything about the run that its data have not said already (`announce_data`)."""
    announce_held_out(data, console, config.eval_steps)
    announce_weights(config, run, network, console)
    if network.lora is not None:
        announce_lora(network.model, network.lora, console)
    console.print(parameter_table(network.model))
    say(console, amount_line(config, len(data.frames_of(data.train_episodes)), state.parallel.ranks.world_size))
    say(console, schedule_line(state.optimizer.schedule))
    if config.ema.enable and (share := start_share(config.ema.decay, config.steps)) is not None:
        say(console, f"warning: {slow_average(config, share)}")
    if run.continues and (notice := schedule_notice(config, state.optimizer.schedule)) is not None:
        say(console, f"notice: {notice}")
    say(console, compute_line(config, device))
    say(console, parallel_line(state.parallel, device))
    if state.parallel.sharded:
        weights = dict(state.model.named_parameters())
        held, total = bytes_on_rank(weights), sum(value.nbytes for value in weights.values())
        say(console, f"rank 0 holds {held / 1e6:,.1f} of {total / 1e6:,.1f} MB of weights")
    say(console, optimizer_line(config, state))
    size = checkpoint_bytes(state, network.lora is not None)
    kept = config.keep_checkpoints + 1
    places = (run.root.absolute(), *run.root.absolute().parents)
    free = shutil.disk_usage(next(place for place in places if place.exists())).free
    say(
        console,
        f"run: {run.root}; a checkpoint takes {size / 1e6:,.0f} MB, at most {kept} are kept "
        f"({kept * size / 1e9:.1f} GB; {free / 1e9:.1f} GB free)",
    )
    if kept * size > free and not run.continues:
        say(console, "notice: the disk has no room for all of them; lower --keep_checkpoints, or free some space")


def announce_data(config: TrainConfig, prepared: PreparedData, console: Console) -> None:
    """Say what the data are, where each camera goes, and what is peculiar about videos and numbers.

    Raises DataError for a video that cannot be opened.
    """
    dataset = prepared.dataset
    dataset.look_at_headers(prepared.processor.slots.keys)
    say(
        console,
        f"data set: {dataset.root} (LeRobot {dataset.version}), {dataset.num_episodes} episodes, "
        f"{dataset.num_frames:,} frames at {dataset.fps:g} Hz, {len(dataset.tasks)} tasks",
    )
    for note in dataset.notes:
        say(console, f"note: {note}")
    say(console, prepared.processor.describe())
    for warning in prepared.statistics.warnings:
        say(console, f"warning: {warning}")
    for words in filter(None, (relative_note(config, dataset), rate_note(dataset))):
        say(console, f"note: {words}")


def relative_note(config: TrainConfig, dataset: Dataset) -> str | None:
    """Return what to say of relative actions whose dimensions have no names; None where there is nothing to say."""
    found = any(word in name.lower() for word in DEFAULT_EXCLUSION for name in dataset.action_names)
    if not config.policy.use_relative_actions or dataset.names_actions or found:
        return None
    last = dataset.action_names[-1]
    return (
        "relative actions: the data set does not name its action dimensions, so a gripper is not known as one; "
        f"--policy.relative_exclude_joints='[{last}]' keeps the last one absolute"
    )


def announce_weights(config: TrainConfig, run: OpenRun, network: Network, console: Console) -> None:
    """Say where the weights come from."""
    if run.continues:
        say(console, f"resumed: {run.folder} (step {run.saved['step']:,})")
    elif config.resume:
        say(console, f"notice: {run.root} has no checkpoint yet; it starts again from step 0")
    for change in run.changed:
        say(console, f"changed since: {change}")
    if network.receipt is not None:
        say(console, network.receipt.render())
    elif not run.continues:
        say(console, f"weights: random, drawn from seed {config.seed} (--from_scratch)")


def announce_lora(model: Pi05, plan: LoraPlan, console: Console) -> None:
    """Say what the patterns hit, the vision tower included."""
    console.print(lora_table(model, plan))
    if plan.left_out:
        say(console, f"notice: {plan.left_out} maps that the patterns hit stay as they are, as other flags ask")


def amount_line(config: TrainConfig, frames: int, world_size: int = 1) -> str:
    """Return how many samples a step and the run see."""
    passes, size = config.gradient_accumulation_steps, config.micro_batch_size(world_size)
    samples = config.samples_per_step(world_size)
    parts = [f"{world_size} processes"] * (world_size > 1) + [f"{passes} passes"] * (passes > 1)
    per_step = f"{samples} samples ({' × '.join(parts)} of {size})" if parts else f"{samples} samples"
    total = samples * config.steps
    return (
        f"training: {config.steps:,} steps of {per_step} = {total:,} samples = {total / frames:.1f} epochs "
        f"of {frames:,} frames"
    )


def schedule_line(schedule: Schedule) -> str:
    """Return the learning rate over the run."""
    return (
        f"learning rate: {schedule.peak:g} after {schedule.warmup_steps:,} steps of warm-up, "
        f"cosine to {schedule.end:g} at step {schedule.decay_steps:,}"
    )


def slow_average(config: TrainConfig, share: float) -> str:
    """Return what to say of an exponential moving average that is slower than the run."""
    return (
        f"the average of the weights (--ema.decay={config.ema.decay:g}) is slower than the run: after "
        f"{config.steps:,} steps {share:.0%} of it are the weights at the start, and it is the average that is saved "
        f"and measured; {faster_average(config.steps)}"
    )


def compute_line(config: TrainConfig, device: torch.device) -> str:
    """Return device and precision."""
    arithmetic = "float32 arithmetic" if config.precision == "float32" else "bfloat16 arithmetic"
    small = device.type == "cpu" and config.precision != "float32"
    slow = "; slow on a CPU, --precision float32 is faster" if small else ""
    threads = f" ({torch.get_num_threads()} threads)" if device.type == "cpu" else ""
    weights = "float32 weights"
    if config.uses_adapters and config.precision == "mixed":
        weights = "frozen weights in bfloat16 where they compute in it, trained ones in float32"
    if config.quantised_base:
        weights = f"frozen matrices in {config.peft.quantize}, trained ones in float32"
    if config.precision == "bf16-sr":
        weights = "bfloat16 weights rounded by chance"
    return f"compute: {device}{threads}, {weights}, {arithmetic}{slow}"


def parallel_line(parallel: Parallel, device: torch.device) -> str:
    """Return how many processes train together, and what each of them holds."""
    ranks = parallel.ranks
    if parallel.kind == "none":
        idle = torch.cuda.device_count() - 1 if device.type == "cuda" else 0
        more = f"; {idle} more stay idle: torchrun --nproc-per-node={idle + 1} -m pi05 train uses them" if idle else ""
        return f"parallel: one process{more}"
    world = ranks.world
    shares = {
        "ddp": "each with the whole network",
        "fsdp": f"each with 1/{ranks.world_size} of weights, gradients and moments",
        "hsdp": f"each with 1/{world.per_machine} of weights, gradients and moments, the same on every machine",
    }
    machines = f" on {world.machines} machines" if world.machines > 1 else ""
    return f"parallel: {parallel.kind}, {ranks.world_size} processes{machines}, {shares[parallel.kind]}"


def optimizer_line(config: TrainConfig, state: TrainState) -> str:
    """Return what AdamW's moments take, and what is special about the step."""
    size = state.optimizer.moment_bytes()
    shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    place = " in host memory" if config.optimizer_offload else ""
    release = "; gradients are used and freed in the backward pass" if config.gradient_release else ""
    remark = f"; {state.optimizer.remark}" if state.optimizer.remark else ""
    return f"optimizer: AdamW, moments in {config.optimizer_state}, {shown}{place}{release}{remark}"


def checkpoint_bytes(state: TrainState, adapter: bool) -> int:
    """Return the size of a checkpoint: all weights (those of an `adapter` only), two moments of the trained, EMA."""
    trained = list(state.optimizer.parameters.values())
    weights = sum(value.nbytes for value in (trained if adapter else state.model.parameters()))
    average = 4 * sum(value.numel() for value in trained) if state.ema is not None else 0
    return weights + average + state.optimizer.moment_bytes() + 2**20
