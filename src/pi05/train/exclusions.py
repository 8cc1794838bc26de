"""What cannot go together in a run, and why: the one list that configuration, run and planner ask. Torch-free.

Each exclusion is a function that returns the error to raise, or None. Values that are impossible by themselves are the
business of each configuration class; whether a run fits the memory is that of `plan/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi05.errors import ConfigError
from pi05.settings.schema import refuse
from pi05.train.parallel.kind import Kind, World

if TYPE_CHECKING:
    from pi05.train.config import TrainConfig
else:  # the configuration itself asks this module, so it cannot be imported here
    TrainConfig = Any


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run takes place, as far as that excludes settings."""

    on_gpu: bool = True
    world: World = field(default_factory=World)
    kind: Kind = "none"
    """How the network lies on the GPUs."""

    @property
    def splits(self) -> bool:
        """Whether each GPU holds a part of the network only."""
        return self.kind in ("fsdp", "hsdp")


ANYWHERE = Place()
"""A place that excludes nothing: one GPU."""


def find_conflict(config: TrainConfig, place: Place = ANYWHERE) -> ConfigError | None:
    """Return the first exclusion that the settings run into at this place; None where they go together."""
    for excluded in EXCLUSIONS:
        error = excluded(config, place)
        if error is not None:
            return error
    return None


def require_compatible(config: TrainConfig, place: Place = ANYWHERE) -> None:
    """Raise ConfigError for settings that cannot go together at this place."""
    error = find_conflict(config, place)
    if error is not None:
        raise error


# --- between settings -------------------------------------------------------------------------------------------------


def scratch_with_base(config: TrainConfig, place: Place) -> ConfigError | None:
    """Random weights and a base checkpoint."""
    if not (config.from_scratch and config.policy.path is not None):
        return None
    remedy = f"drop --from_scratch, or drop --policy.path={config.policy.path}"
    return refuse("from_scratch", True, "true only without a base checkpoint", remedy)


def scratch_with_adapters(config: TrainConfig, place: Place) -> ConfigError | None:
    """Random weights and LoRA."""
    if not (config.from_scratch and config.uses_adapters):
        return None
    reason = "a low-rank change of random weights learns little; drop one of --from_scratch and LoRA"
    return refuse("from_scratch", True, "true only without LoRA (--policy.use_peft, --peft.*)", reason)


def scratch_with_stored_statistics(config: TrainConfig, place: Place) -> ConfigError | None:
    """Random weights and the statistics of a checkpoint."""
    if not (config.from_scratch and config.stats == "checkpoint"):
        return None
    allowed = "recompute with --from_scratch, which has no checkpoint"
    return refuse("stats", config.stats, allowed, f"set --stats to {allowed}")


def adapters_with_rounded_weights(config: TrainConfig, place: Place) -> ConfigError | None:
    """LoRA and bfloat16 weights with stochastic rounding."""
    if not (config.uses_adapters and config.precision == "bf16-sr"):
        return None
    reason = "with LoRA, mixed holds the frozen base in bfloat16 already, and adapters need float32"
    remedy = f"use --precision=mixed: {reason}"
    return refuse("precision", config.precision, "mixed or float32 with LoRA", remedy)


def dora_with_quantised_base(config: TrainConfig, place: Place) -> ConfigError | None:
    """DoRA and a quantised base."""
    if not (config.peft.use_dora and config.peft.quantize != "none"):
        return None
    reason = "DoRA measures the rows of the frozen weight in float32 at every step"
    return refuse("peft.use_dora", True, "false with a quantised base", f"drop one of the two: {reason}")


def release_with_accumulation(config: TrainConfig, place: Place) -> ConfigError | None:
    """Gradient release and gradient accumulation."""
    if not (config.gradient_release and config.gradient_accumulation_steps > 1):
        return None
    reason = "a gradient that is freed at once cannot wait for those of the next pass to be added"
    allowed = "false with --gradient_accumulation_steps above 1"
    return refuse("gradient_release", True, allowed, f"drop one of the two: {reason}")


def offload_without_recomputation(config: TrainConfig, place: Place) -> ConfigError | None:
    """Activations in host memory without full recomputation."""
    if not config.activation_offload or config.recomputed == 1.0:
        return None
    reason = "only layers that are recomputed as a whole leave nothing else on the GPU"
    remedy = f"add --activation_checkpointing=full: {reason}"
    return refuse("activation_offload", True, "true only with full recomputation", remedy)


def cached_prefix_that_is_trained(config: TrainConfig, place: Place) -> ConfigError | None:
    """A cached prefix (keys and values of vision and language) that changes with every step."""
    if not config.cache_prefix or config.part == "expert":
        return None
    reason = "what is trained changes with every step and cannot be kept"
    remedy = f"add --policy.train_expert_only: {reason}"
    return refuse("cache_prefix", True, "true only with a frozen prefix", remedy)


def cached_prefix_with_augmentation(config: TrainConfig, place: Place) -> ConfigError | None:
    """A cached prefix and augmented pictures."""
    if not (config.cache_prefix and config.augment):
        return None
    reason = "augmented pictures are new ones each time"
    return refuse("cache_prefix", True, "true only without augmentation", f"add --augment=false: {reason}")


# --- between settings and the machine ---------------------------------------------------------------------------------


def optimizer_offload_on_cpu(config: TrainConfig, place: Place) -> ConfigError | None:
    """Moments in host memory on a device that has no other."""
    if not config.optimizer_offload or place.on_gpu:
        return None
    remedy = "leave --optimizer_offload out; --optimizer_state=8bit saves memory here too"
    return _nothing_to_offload("optimizer_offload", remedy)


def activation_offload_on_cpu(config: TrainConfig, place: Place) -> ConfigError | None:
    """Activations in host memory on a device that has no other."""
    if not config.activation_offload or place.on_gpu:
        return None
    return _nothing_to_offload("activation_offload", "leave --activation_offload out")


def _nothing_to_offload(flag: str, remedy: str) -> ConfigError:
    return ConfigError(
        f"--{flag} has nothing to do on the CPU", wanted="a GPU, whose memory it spares", found="cpu", remedy=remedy
    )


def release_on_several_gpus(config: TrainConfig, place: Place) -> ConfigError | None:
    """Gradient release and several GPUs."""
    if not config.gradient_release or place.world.gpus == 1:
        return None
    return ConfigError(
        "--gradient_release works on one GPU only",
        wanted=f"false on {place.world.gpus} GPUs",
        found="true: each gradient is used and freed before it is averaged with those of the other GPUs",
        remedy="leave it out; --parallel=fsdp divides gradients and moments by the number of GPUs",
    )


def quantised_base_in_parts(config: TrainConfig, place: Place) -> ConfigError | None:
    """A quantised base and a network that is split over GPUs."""
    if not (config.quantised_base and place.splits):
        return None
    return ConfigError(
        f"a base in {config.peft.quantize} cannot be split over GPUs (--parallel={place.kind})",
        wanted="--parallel=ddp, or LoRA on a base that is not quantised",
        found="codes and scales, which FSDP does not divide",
        remedy=f"use --parallel=ddp, or --method=lora with --parallel={place.kind}",
    )


def cached_prefix_in_parts(config: TrainConfig, place: Place) -> ConfigError | None:
    """A cached prefix and a network that is split over GPUs."""
    if not (config.cache_prefix and place.splits):
        return None
    return ConfigError(
        "--cache_prefix cannot be combined with a network that is split over GPUs",
        wanted="--parallel=ddp, or one GPU",
        found=f"--parallel={place.kind}",
        remedy="add --parallel=ddp: only the expert is trained, so the moments are small",
    )


def whole_parameters_in_parts(config: TrainConfig, place: Place) -> ConfigError | None:
    """An optimizer that saves memory and a network that is split over GPUs."""
    flag = next(iter(config.memory_saving_flags), None)
    if flag is None or not place.splits:
        return None
    return ConfigError(
        f"{flag} cannot be combined with --parallel={place.kind}",
        wanted="--precision=mixed or float32, with float32 moments on the GPU",
        found=f"{flag}: its blocks and its rounding go by the position in the whole parameter, which is split here",
        remedy=f"leave {flag.partition('=')[0]} out, since {place.kind} divides that memory by the number of GPUs; "
        "or use --parallel=ddp",
    )


def hsdp_on_uneven_machines(config: TrainConfig, place: Place) -> ConfigError | None:
    """HSDP on machines with different numbers of GPUs."""
    if place.kind != "hsdp" or place.world.even:
        return None
    return ConfigError(
        "--parallel=hsdp needs the same number of GPUs on every machine",
        wanted=f"a multiple of {place.world.per_machine}",
        found=f"{place.world.gpus} GPUs in all",
        remedy="use --parallel=fsdp",
    )


EXCLUSIONS: tuple[Callable[[Any, Place], ConfigError | None], ...] = (
    scratch_with_base,
    scratch_with_adapters,
    adapters_with_rounded_weights,
    dora_with_quantised_base,
    release_with_accumulation,
    offload_without_recomputation,
    cached_prefix_that_is_trained,
    cached_prefix_with_augmentation,
    scratch_with_stored_statistics,
    optimizer_offload_on_cpu,
    activation_offload_on_cpu,
    release_on_several_gpus,
    quantised_base_in_parts,
    cached_prefix_in_parts,
    whole_parameters_in_parts,
    hsdp_on_uneven_machines,
)
