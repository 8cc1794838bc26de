"""What `pi05 plan` prints: memory by part, whether it fits, speed, assumptions, and what would fit instead."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from rich.table import Table

from pi05.errors import tell
from pi05.model.config import ModelConfig
from pi05.sources.resolve import is_name
from pi05.terminal import PlainConsole
from pi05.train.config import TrainConfig
from pi05.train.exclusions import Place, require_compatible
from pi05.train.network import choose_sizes, locate_start
from pi05.train.parallel.kind import World
from pi05.train.plan.assumptions import PADDED, PROBED, assumptions, attention_kernels, attention_line, update_line
from pi05.train.plan.compilation import FLAG, choose_compilation
from pi05.train.plan.counted_on import why_no_triton_there
from pi05.train.plan.flops import known_gpu
from pi05.train.plan.gpus import GIB, GPUS, Gpu, gib
from pi05.train.plan.memory import ONE_GPU
from pi05.train.plan.methods import Plan, Proposal, make_plan, propose, same_method, settle_recomputation
from pi05.train.plan.shapes import Assumed, plan_shapes
from pi05.train.plan.step_on_shapes import Shapes

MEANINGS = {
    "weights": "all parameters, in the precision that they are held in",
    "gradients": "of the {trained:,} parameters that are trained",
    "optimizer": "AdamW's two moments",
    "average": "the moving average of the weights",
    "activations": "kept for the backward pass, and the batch",
    "workspace": "temporary: recomputed layers, one operation's results, cuBLAS",
}


def print_plan(
    config: TrainConfig,
    *,
    gpu: str | None,
    world: World,
    cameras: int | None,
    prompt_tokens: int | None,
    as_json: bool,
) -> None:
    """Plan a run and print it. Raises a UserError for settings or files that cannot be used."""
    path = config.policy.path
    here = path is not None and not is_name(path, "model")  # a plan fetches nothing
    base = locate_start(config) if here else None
    sizes = choose_sizes(config, base)
    assumed = plan_shapes(config, sizes, base, world_size=world.gpus, cameras=cameras, prompt_tokens=prompt_tokens)
    console = PlainConsole()
    known = GPUS[gpu] if gpu is not None else present_gpu()
    refuse_together(config, sizes, assumed.shapes, known or GPUS["h200"], world)
    if known is None:
        plans = overview(config, sizes, assumed.shapes, world)
        assumed = replace(assumed, told=(*assumed.told, *compilation_by_gpu(plans)))
        if as_json:
            tell(json.dumps([plain(each, None, assumed) for each in plans], indent=2))
        else:
            _print_overview(plans, assumed, console)
        return
    settled = settle_recomputation(config, sizes, assumed.shapes, known, world)
    if settled is not config:
        told = f"--activation_checkpointing=auto is {settled.activation_checkpointing} on this GPU"
        assumed = replace(assumed, told=(*assumed.told, told))
    choice = choose_compilation(settled, sizes, assumed.shapes, known, settled.steps, why_no_triton_there(), world)
    if choice is not None:
        assumed = replace(assumed, told=(*assumed.told, choice.told))
    plan = make_plan(settled, sizes, assumed.shapes, known, world)
    if as_json:
        tell(json.dumps(plain(plan, None if plan.fits else propose(plan), assumed), indent=2))
    else:
        _print_one(plan, assumed, console)


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
    return Gpu(
        name=title,
        title=title,
        memory_gib=memory / GIB,
        bf16_tflops=0,
        bandwidth_gbs=0,
        capability=torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0),
        nvlink=False,
        source="this machine",
    )


def overview(config: TrainConfig, sizes: ModelConfig, shapes: Shapes, world: World = ONE_GPU) -> list[Plan]:
    """Return the same run on every GPU of the table, each with the recomputation that `auto` means there."""
    return [
        make_plan(settle_recomputation(config, sizes, shapes, gpu, world), sizes, shapes, gpu, world)
        for gpu in GPUS.values()
    ]


def compilation_by_gpu(plans: list[Plan]) -> list[str]:
    """Return a line on which of these GPUs the run would compile its layers; none where the user has said it."""
    by_answer: dict[bool, list[str]] = {}
    for plan in plans:
        missing = why_no_triton_there()
        steps = plan.config.steps
        choice = choose_compilation(plan.config, plan.sizes, plan.shapes, plan.gpu, steps, missing, plan.world)
        if choice is not None:
            by_answer.setdefault(choice.chosen, []).append(plan.gpu.name)
    if not by_answer:
        return []
    told = "; ".join(f"{str(chosen).lower()} on {', '.join(names)}" for chosen, names in by_answer.items())
    return [f"{FLAG} is {told}, as predicted; the reason with --gpu=NAME"]


def refuse_together(config: TrainConfig, sizes: ModelConfig, shapes: Shapes, gpu: Gpu, world: World) -> None:
    """Raise the ConfigError that training on these GPUs would end with, where settings exclude each other."""
    require_compatible(config, Place(world=world))  # before a step is run on shapes
    if world.gpus > 1:
        kind = make_plan(config, sizes, shapes, gpu, world).memory.kind
        require_compatible(config, Place(world=world, kind=kind))


def plain(plan: Plan, proposal: Proposal | None, assumed: Assumed | None = None) -> dict[str, Any]:
    """Return a plan as plain data; bytes are whole numbers."""
    speed = plan.speed
    return {
        "gpu": plan.gpu.name,
        "gpus": plan.world.gpus,
        "gpus_per_machine": plan.world.per_machine,
        "parallel": plan.memory.kind,
        "method": plan.config.method,
        "batch_per_pass": plan.shapes.batch,
        "cameras": plan.shapes.cameras,
        "prompt_tokens": plan.shapes.prompt_tokens,
        "horizon": plan.sizes.horizon,
        "trained_parameters": plan.memory.step.trained,
        "parts": plan.memory.parts,
        "host": plan.memory.host,
        "peak": plan.memory.peak,
        "required": plan.required,
        "available": plan.available,
        "fits": plan.fits,
        "steps_per_hour": None if speed is None else round(speed.steps_per_hour, 1),
        "samples_per_second": None if speed is None else round(speed.samples_per_second, 2),
        "attention": attention_kernels(plan),
        "update": plan.kernels.update or "fused",
        "assumed": [] if assumed is None else [*assumed.told, *assumptions(plan), *kernel_lines(plan)],
        "proposal": None
        if proposal is None
        else {"method": proposal.method, "flags": list(proposal.flags), "plan": plain(proposal.plan, None)},
    }


def kernel_lines(plan: Plan) -> list[str]:
    """Return which kernels a plan counts on, and what a run does before it takes them."""
    update = update_line(plan)
    return [attention_line(plan), *([] if update is None else [update])]


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


def proposals_text(plan: Plan) -> str:
    """Say what would fit instead of a plan: the best method, and the method asked for where that can be made to fit."""
    best, same = propose(plan), same_method(plan)
    if same is None or best is None or same.flags == best.flags:
        return proposal_text(best or same)
    return f"{proposal_text(best)}; or keep {proposal_text(same)}"


def _print_one(plan: Plan, assumed: Assumed, console: PlainConsole) -> None:
    shapes, memory = plan.shapes, plan.memory
    times = f"{plan.world.gpus} × " if plan.world.gpus > 1 else ""
    passes = plan.config.gradient_accumulation_steps
    batch = f"{passes} passes of {shapes.batch}" if passes > 1 else f"batch {shapes.batch}"
    split = f"{memory.kind}, " if plan.world.gpus > 1 else ""
    title = f"{times}{plan.gpu.title}: {plan.config.method}, {split}{batch}, at the peak"
    table = Table(title=title, title_justify="left")
    for column in ("part", "GiB", "what"):
        table.add_column(column, justify="right" if column == "GiB" else "left")
    for name, size in memory.parts.items():
        if size or name != "average":
            table.add_row(name, gib(size), MEANINGS[name].format(trained=memory.step.trained))
    table.add_section()
    table.add_row("peak of a step", gib(memory.peak), "of PyTorch's allocator")
    table.add_row("needed", gib(plan.required), "with gaps and CUDA itself")
    table.add_row("available", gib(plan.available), plan.gpu.source)
    console.print(table)
    if memory.host:
        console.print(f"host memory: {gib(plan.host)} GiB in each machine, page-locked")
    console.print(verdict(plan), style="bold")
    if plan.speed is not None:
        hours = plan.config.steps / plan.speed.steps_per_hour
        duration = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
        console.print(
            f"{plan.speed.steps_per_hour:,.0f} steps per hour, {plan.speed.samples_per_second:,.1f} samples per "
            f"second; {plan.config.steps:,} steps in {duration} (estimated)"
        )
    if not plan.fits:
        console.print(f"proposal: {proposals_text(plan)}", soft_wrap=True)
    _print_assumptions(plan, assumed, kernel_lines(plan), console)


def _print_overview(plans: list[Plan], assumed: Assumed, console: PlainConsole) -> None:
    first = plans[0]
    table = Table(title=f"{first.config.method}, batch {first.shapes.batch}, by GPU", title_justify="left")
    settled = len({plan.config.activation_checkpointing for plan in plans}) > 1
    for column in (
        "--gpu",
        "GiB",
        "needed",
        "",
        "steps per hour",
        "padded attention",
        *["recomputed"] * settled,
    ):
        table.add_column(column, justify="right" if column in ("GiB", "needed", "steps per hour") else "left")
    for plan in plans:
        speed = "" if plan.speed is None else f"{plan.speed.steps_per_hour:,.0f}"
        degree = [plan.config.activation_checkpointing] * settled
        kernel = attention_kernels(plan).get(PADDED, "")
        needed = gib(plan.required)
        table.add_row(plan.gpu.name, gib(plan.available), needed, verdict(plan), speed, kernel, *degree)
    console.print(table)
    console.print("parts of the memory, and what would fit: add --gpu=NAME")
    _print_assumptions(first, assumed, [PROBED, "kernels, and what there is without them: add --gpu=NAME"], console)


def _print_assumptions(plan: Plan, assumed: Assumed, kernels: list[str], console: PlainConsole) -> None:
    shapes = plan.shapes
    padded = f"prompts padded to {shapes.prompt_tokens} tokens, horizon {plan.sizes.horizon}"
    for line in (*assumed.told, padded, *assumptions(plan), *kernels):
        console.print(f"- {line}", style="dim", soft_wrap=True)
