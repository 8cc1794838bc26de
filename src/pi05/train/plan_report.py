"""What `pi05 plan` prints: memory by part, whether it fits, speed, assumptions, and what would fit instead."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.flops import known_gpu
from pi05.train.gpus import GIB, GPUS, Gpu
from pi05.train.memory import COLLECTIVES, CUDA_CONTEXT, FRAGMENTATION
from pi05.train.network import choose_sizes
from pi05.train.plan import Plan, Proposal, make_plan, propose, settle_recomputation
from pi05.train.plan_shapes import Assumed, plan_shapes
from pi05.train.plan_speed import UTILISATION

MEANINGS = {
    "weights": "all parameters, in the precision that they are held in",
    "gradients": "of what is trained",
    "optimizer": "AdamW's two moments",
    "average": "the moving average of the weights",
    "activations": "kept for the backward pass, and the batch",
    "workspace": "temporary: recomputed layers, one operation's results, cuBLAS",
}


def report(
    config: TrainConfig, *, gpu: str | None, gpus: int, cameras: int | None, prompt_tokens: int | None, as_json: bool
) -> None:
    """Plan a run and print it. Raises a UserError for settings or files that cannot be used."""
    sizes = sizes_of(config)
    assumed = plan_shapes(config, sizes, world_size=gpus, cameras=cameras, prompt_tokens=prompt_tokens)
    console = Console()
    known = GPUS[gpu] if gpu is not None else present_gpu()
    if known is None:
        plans = overview(make_plan(config, sizes, assumed.shapes, GPUS["rtx4090"], gpus))
        if as_json:
            print(json.dumps([plain(each, None, assumed) for each in plans], indent=2))
        else:
            _print_overview(plans, assumed, console)
        return
    settled = settle_recomputation(config, sizes, assumed.shapes, known, gpus)
    if settled is not config:
        told = f"--activation_checkpointing=auto is {settled.activation_checkpointing} on this GPU"
        assumed = replace(assumed, told=(*assumed.told, told))
    plan = make_plan(settled, sizes, assumed.shapes, known, gpus)
    proposal = None if plan.fits else propose(plan)
    if as_json:
        print(json.dumps(plain(plan, proposal, assumed), indent=2))
    else:
        _print_plan(plan, proposal, assumed, console)


def sizes_of(config: TrainConfig) -> ModelConfig:
    """Return the sizes of the network: the base's where one is named, else those of π₀.₅."""
    if config.policy.path is None and not config.from_scratch:
        return config.network_sizes()
    return choose_sizes(config)


def present_gpu() -> Gpu | None:
    """Return the GPU in this machine; None without one. Its arithmetic is 0 where it is not in the table."""
    if not torch.cuda.is_available():
        return None
    title, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    return describe_gpu(title, memory)


def describe_gpu(title: str, memory: int) -> Gpu:
    """Return a GPU by the name that CUDA gives it and its bytes."""
    known = known_gpu(title)
    if known is not None:
        return replace(known, memory_gib=memory / GIB)
    return Gpu(name=title, title=title, memory_gib=memory / GIB, bf16_tflops=0, bandwidth_gbs=0, source="this machine")


def overview(plan: Plan) -> list[Plan]:
    """Return the same run on every GPU of the table."""
    return [
        make_plan(plan.config, plan.sizes, plan.shapes, gpu, plan.gpus, step=plan.memory.step) for gpu in GPUS.values()
    ]


def plain(plan: Plan, proposal: Proposal | None, assumed: Assumed | None = None) -> dict[str, Any]:
    """Return a plan as plain data; bytes are whole numbers."""
    speed = plan.speed
    return {
        "gpu": plan.gpu.name,
        "gpus": plan.gpus,
        "parallel": plan.memory.kind,
        "method": plan.config.method,
        "batch_per_pass": plan.shapes.batch,
        "cameras": plan.shapes.cameras,
        "prompt_tokens": plan.shapes.prompt_tokens,
        "horizon": plan.sizes.horizon,
        "parts": plan.memory.parts,
        "loading": plan.memory.loading,
        "host": plan.memory.host,
        "peak": plan.memory.peak,
        "required": plan.required,
        "available": plan.available,
        "fits": plan.fits,
        "steps_per_hour": None if speed is None else round(speed.steps_per_hour, 1),
        "samples_per_second": None if speed is None else round(speed.samples_per_second, 2),
        "assumed": [] if assumed is None else [*assumed.told, *assumptions(plan)],
        "proposal": None
        if proposal is None
        else {"method": proposal.method, "flags": list(proposal.flags), "plan": plain(proposal.plan, None)},
    }


def assumptions(plan: Plan) -> list[str]:
    """Return what a plan takes for granted, one sentence each."""
    found = [
        f"{FRAGMENTATION:.0%} of the peak lost in gaps and {gib(CUDA_CONTEXT)} GiB for CUDA itself: assumed",
        "compiled layers are not predicted: they need as much or less",
        "speed: no GPU has been measured with this program yet; "
        f"{UTILISATION:.0%} of the peak arithmetic is assumed (what openpi reaches on an H200), data in time",
    ]
    if plan.gpus > 1:
        found.append(f"{plan.gpus} GPUs: parts divided by arithmetic, {gib(COLLECTIVES)} GiB for NCCL: assumed")
    return found


def gib(count: float) -> str:
    """Write bytes as GiB."""
    return f"{count / GIB:.1f}"


def verdict(plan: Plan) -> str:
    """Say whether a plan fits and by how much."""
    if plan.fits:
        return f"fits, {gib(plan.margin)} GiB left"
    return f"does not fit, {gib(-plan.margin)} GiB too much"


def proposal_text(proposal: Proposal | None) -> str:
    """Say what to do where a run does not fit."""
    if proposal is None:
        return "no method of this version fits; take a larger GPU, or several with --parallel=fsdp"
    flags, memory = " ".join(proposal.flags), proposal.plan.memory
    return f"{proposal.method} ({gib(memory.peak)} GiB, {verdict(proposal.plan)}): {flags}"


def _print_plan(plan: Plan, proposal: Proposal | None, assumed: Assumed, console: Console) -> None:
    shapes, memory = plan.shapes, plan.memory
    times = f"{plan.gpus} × " if plan.gpus > 1 else ""
    table = Table(title=f"{times}{plan.gpu.title}: {plan.config.method}, batch {shapes.batch}", title_justify="left")
    for column in ("part", "GiB", "what"):
        table.add_column(column, justify="right" if column == "GiB" else "left")
    for name, size in memory.parts.items():
        table.add_row(name, gib(size), MEANINGS[name])
    table.add_section()
    table.add_row("peak of a step", gib(sum(memory.parts.values())), "of PyTorch's allocator")
    if memory.loading >= sum(memory.parts.values()):
        table.add_row("peak of loading", gib(memory.loading), "the base while it is read")
    table.add_row("needed", gib(plan.required), "with gaps and CUDA itself")
    table.add_row("available", gib(plan.available), plan.gpu.source)
    console.print(table)
    if memory.host:
        console.print(f"host memory: {gib(memory.host)} GiB of what is kept there")
    console.print(f"[bold]{verdict(plan)}[/bold]")
    if plan.speed is not None:
        hours = plan.config.steps / plan.speed.steps_per_hour
        console.print(
            f"{plan.speed.steps_per_hour:,.0f} steps per hour, {plan.speed.samples_per_second:.1f} samples per second; "
            f"{plan.config.steps:,} steps in {hours:.1f} hours (estimated)"
        )
    if not plan.fits:
        console.print(f"proposal: {proposal_text(proposal)}", soft_wrap=True)
    _print_assumptions(plan, assumed, console)


def _print_overview(plans: list[Plan], assumed: Assumed, console: Console) -> None:
    first = plans[0]
    table = Table(title=f"{first.config.method}, batch {first.shapes.batch}, by GPU", title_justify="left")
    for column in ("--gpu", "GiB", "needed", "", "steps per hour"):
        table.add_column(column, justify="left" if column in ("--gpu", "") else "right")
    for plan in plans:
        speed = "" if plan.speed is None else f"{plan.speed.steps_per_hour:,.0f}"
        table.add_row(plan.gpu.name, gib(plan.available), gib(plan.required), verdict(plan), speed)
    console.print(table)
    console.print("parts of the memory, and what would fit: add --gpu=NAME")
    _print_assumptions(first, assumed, console)


def _print_assumptions(plan: Plan, assumed: Assumed, console: Console) -> None:
    shapes = plan.shapes
    padded = f"prompts padded to {shapes.prompt_tokens} tokens, horizon {plan.sizes.horizon}"
    for line in (*assumed.told, padded, *assumptions(plan)):
        console.print(f"[dim]- {line}[/dim]", soft_wrap=True)
