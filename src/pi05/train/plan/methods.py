"""A run on a GPU that need not be there: does it fit, how fast is it, and which method would fit instead.

Proposals are tried from the best method to the lightest; what cannot fit by its weights and moments alone is passed
over without running its step on shapes. Leaves out the tables (`report.py`) and the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pi05.errors import ConfigError
from pi05.model.config import ModelConfig
from pi05.settings.schema import to_plain
from pi05.train.config import TrainConfig
from pi05.train.exclusions import Place, find_conflict
from pi05.train.method import MEANINGS, Method
from pi05.train.parallel.kind import Kind, World, divided_by
from pi05.train.plan.counted_on import CountedOn, counted_on
from pi05.train.plan.gpus import GIB, Gpu
from pi05.train.plan.memory import ONE_GPU, MemoryPrediction, predict
from pi05.train.plan.speed import Speed, estimate_speed
from pi05.train.plan.step_on_shapes import Shapes, least_held_bytes


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method with what saves memory: its name, and the settings that make it."""

    name: str
    settings: dict[str, Any]
    """By flag."""


_FULL = MEANINGS["full"].settings
_PLAIN = {
    "precision": "mixed",
    "optimizer_state": "float32",
    "optimizer_offload": False,
    "gradient_release": False,
    "activation_offload": False,
}
_SMALL = {"activation_checkpointing": "full", "gradient_release": True, "gradient_accumulation_steps": 1}
_LORA = {**_PLAIN, **MEANINGS["lora"].settings}
_QLORA = {**_PLAIN, **MEANINGS["qlora"].settings}

FULL = (
    Recipe(name="full", settings={**_FULL, **_PLAIN, "activation_checkpointing": "none"}),
    Recipe(name="full, cheap work recomputed", settings={**_FULL, **_PLAIN, "activation_checkpointing": "selective"}),
    Recipe(name="full, activations recomputed", settings={**_FULL, **_PLAIN, "activation_checkpointing": "full"}),
    Recipe(
        name="full, 8-bit moments, activations recomputed",
        settings={**_FULL, **_PLAIN, "activation_checkpointing": "full", "optimizer_state": "8bit"},
    ),
    Recipe(
        name="full, 8-bit moments, gradient release",
        settings={**_FULL, **_PLAIN, **_SMALL, "optimizer_state": "8bit"},
    ),
    Recipe(
        name="full, bfloat16 weights, 8-bit moments",
        settings={
            **_FULL,
            **_PLAIN,
            "activation_checkpointing": "full",
            "precision": "bf16-sr",
            "optimizer_state": "8bit",
        },
    ),
    Recipe(
        name="full, bfloat16 weights, 8-bit moments, gradient release",
        settings={**_FULL, **_PLAIN, **_SMALL, "precision": "bf16-sr", "optimizer_state": "8bit"},
    ),
    Recipe(
        name="full, bfloat16 weights, 4-bit moments, gradient release",
        settings={**_FULL, **_PLAIN, **_SMALL, "precision": "bf16-sr", "optimizer_state": "4bit"},
    ),
)
LORA = (
    Recipe(name="LoRA", settings={**_LORA, "activation_checkpointing": "none"}),
    Recipe(name="LoRA, activations recomputed", settings={**_LORA, "activation_checkpointing": "full"}),
    Recipe(name="QLoRA, cheap work recomputed", settings={**_QLORA, "activation_checkpointing": "selective"}),
    Recipe(name="QLoRA, activations recomputed", settings={**_QLORA, "activation_checkpointing": "full"}),
)
RECIPES = FULL + LORA
"""From the best to the lightest. Training of the expert alone is not among them: in full it needs more than LoRA, and
its adapters need more than QLoRA's and learn less (docs/memory.md)."""

LEAST_FIRST = ("none", "selective", "0.75", "full")
"""Degrees of recomputation by what they cost; smaller shares keep more than `selective` and cost more too."""


DESKTOP = GIB
"""Bytes that a proposal leaves free on a GPU that nobody has looked at. A desktop takes 0.3 to 1 GiB."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run on a kind of GPU."""

    config: TrainConfig
    sizes: ModelConfig
    shapes: Shapes
    gpu: Gpu
    world: World
    memory: MemoryPrediction
    speed: Speed | None
    """None for a GPU whose arithmetic is not known."""
    available: int
    """Bytes that the run may use on each GPU."""
    required: int
    """Bytes that it needs of these."""

    @property
    def kernels(self) -> CountedOn:
        """The kernels that it counts on."""
        return counted_on(self.config, self.sizes, self.gpu)

    @property
    def host(self) -> int:
        """Bytes of page-locked memory that the run takes of each machine."""
        return self.memory.host * min(self.world.gpus, self.world.per_machine)

    @property
    def margin(self) -> int:
        """Bytes that are left; negative where it does not fit."""
        return self.available - self.required

    @property
    def fits(self) -> bool:
        """Whether the run fits."""
        return self.margin >= 0


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The best method that fits, with the flags that the run has to get for it."""

    method: str
    flags: tuple[str, ...]
    plan: Plan


def make_plan(
    config: TrainConfig,
    sizes: ModelConfig,
    shapes: Shapes,
    gpu: Gpu,
    world: World = ONE_GPU,
    free: int | None = None,
) -> Plan:
    """Plan a run. `free` is what a present GPU has left, CUDA's own memory already taken; else the GPU is empty."""
    memory = predict(config, sizes, shapes, gpu=gpu, world=world)
    return Plan(
        config=config,
        sizes=sizes,
        shapes=shapes,
        gpu=gpu,
        world=world,
        memory=memory,
        speed=estimate_speed(config, sizes, shapes, memory, gpu, world),
        available=gpu.memory if free is None else free,
        required=memory.needed if free is None else memory.needed_beside_cuda,
    )


def settle_recomputation(
    config: TrainConfig, sizes: ModelConfig, shapes: Shapes, gpu: Gpu, world: World = ONE_GPU, free: int | None = None
) -> TrainConfig:
    """Return the configuration with the least recomputation that fits in the place of `auto`; full where none does."""
    if config.activation_checkpointing != "auto":
        return config
    settled = config
    for degree in LEAST_FIRST:
        settled = replace(config, activation_checkpointing=degree)
        if make_plan(settled, sizes, shapes, gpu, world, free).fits:
            break
    return settled


def propose(plan: Plan) -> Proposal | None:
    """Return the best method that fits the GPU of a plan at its batch size, or LoRA at a smaller one; None: nothing.

    On a GPU that is not looked at, what leaves no room for a desktop is proposed only where nothing else fits.
    """
    empty = plan.available == plan.gpu.memory
    return (_first_that_fits(plan, DESKTOP) if empty else None) or _first_that_fits(plan, 0)


def _first_that_fits(plan: Plan, spare: int) -> Proposal | None:
    for method, config, shapes in candidates(plan):
        if least_held_bytes(config, plan.sizes) > plan.available * divided_by(_kind(config), plan.world):
            continue
        free = None if plan.available == plan.gpu.memory else plan.available
        found = make_plan(config, plan.sizes, shapes, plan.gpu, plan.world, free)
        if found.margin >= spare:
            return Proposal(method=method, flags=changed_flags(plan.config, config), plan=found)
    return None


def same_method(plan: Plan) -> Proposal | None:
    """Return the run as it is with the least recomputation that fits; None where no degree makes it fit."""
    if plan.config.activation_offload:
        return None
    free = None if plan.available == plan.gpu.memory else plan.available
    asked = replace(plan.config, activation_checkpointing="auto")
    settled = settle_recomputation(asked, plan.sizes, plan.shapes, plan.gpu, plan.world, free)
    found = make_plan(settled, plan.sizes, plan.shapes, plan.gpu, plan.world, free)
    if not found.fits:
        return None
    return Proposal(method=settled.method, flags=changed_flags(plan.config, settled), plan=found)


def candidates(plan: Plan) -> Iterator[tuple[str, TrainConfig, Shapes]]:
    """Yield what may be proposed, the best first: methods, then LoRA in more and smaller forward passes.

    A moving average is given up before full fine-tuning is.
    """
    ways = ("ddp", "fsdp") if plan.world.gpus > 1 else (plan.config.parallel,)
    for recipe in (*FULL, *(map(without_average, FULL) if plan.config.ema.enable else ()), *LORA):
        for parallel in ways:
            changed = changed_config(plan, {**recipe.settings, "parallel": parallel})
            if changed is not None:
                yield recipe.name, changed, _shapes(changed, plan)
    size = plan.config.micro_batch_size(plan.world.gpus)
    passes = plan.config.gradient_accumulation_steps
    for recipe in RECIPES[-2:]:
        for smaller in (size // 2**halving for halving in range(1, 10) if size % 2**halving == 0):
            batch: dict[str, Any] = {"gradient_accumulation_steps": passes * size // smaller, "parallel": ways[0]}
            if plan.config.global_batch_size is None:
                batch["batch_size"] = smaller
            changed = changed_config(plan, {**recipe.settings, **batch})
            if changed is not None:
                yield f"{recipe.name}, smaller forward passes", changed, _shapes(changed, plan)


def without_average(recipe: Recipe) -> Recipe:
    """Return the recipe without a moving average of the weights."""
    return Recipe(name=f"{recipe.name}, no moving average", settings={**recipe.settings, "ema.enable": False})


def _shapes(config: TrainConfig, plan: Plan) -> Shapes:
    return replace(plan.shapes, batch=config.micro_batch_size(plan.world.gpus))


def _kind(config: TrainConfig) -> Kind:
    """Return how a candidate lies on the GPUs: candidates name it."""
    return "none" if config.parallel == "auto" else config.parallel


def changed_config(plan: Plan, settings: dict[str, Any]) -> TrainConfig | None:
    """Return the plan's configuration with other settings; None where they exclude each other."""
    given = plan.config
    settings = {**settings, "cache_prefix": False}  # every method here trains the prefix
    recomputed = {"none": 0.0, "full": 1.0}.get(settings["activation_checkpointing"])
    if given.recomputed == recomputed:
        settings = {**settings, "activation_checkpointing": given.activation_checkpointing}
    if given.precision == "float32" and settings["precision"] == "mixed":
        settings = {**settings, "precision": "float32"}
    accumulates = given.gradient_accumulation_steps > 1 and settings["gradient_release"]
    if accumulates and given.global_batch_size is None:
        settings = {**settings, "batch_size": given.batch_size * given.gradient_accumulation_steps}
    values = given.to_dict()
    for path, value in settings.items():
        head, _, tail = path.partition(".")
        if tail:
            values[head] = {**values[head], tail: value}
        else:
            values[head] = value
    try:
        changed = TrainConfig.from_dict(values)
    except ConfigError:  # settings that exclude each other anywhere
        return None
    place = Place(world=plan.world, kind=_kind(changed))
    return changed if find_conflict(changed, place) is None else None


def changed_flags(before: TrainConfig, after: TrainConfig) -> tuple[str, ...]:
    """Return the flags that make one configuration of the other."""
    old, new = _flat(to_plain(before)), _flat(to_plain(after))
    changed = {path: value for path, value in new.items() if value != old[path]}
    if changed.pop("policy.use_peft", None) is not None:
        word: Method = after.method
        told = MEANINGS[word].settings
        rest = {path: value for path, value in changed.items() if told.get(path) != value}
        return (f"--method={word}", *(_flag(path, value) for path, value in rest.items()))
    return tuple(_flag(path, value) for path, value in changed.items())


def _flat(values: dict[str, Any], start: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name in ("policy", "peft", "dataset", "wandb", "trackio", "ema"):
            flat |= _flat(value, f"{name}.")
        else:
            flat[start + name] = value
    return flat


def _flag(path: str, value: Any) -> str:
    return f"--{path}={str(value).lower() if isinstance(value, bool) else value}"
