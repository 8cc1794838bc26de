"""`pi05 plan`: training flags and a GPU in, memory, speed and a proposal out. No torch when it is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pi05.commands.command import Command
from pi05.commands.train import EXTRA_FLAGS, read_training_settings
from pi05.errors import ConfigError, tell
from pi05.settings.lerobot_flags import spellings
from pi05.settings.schema import Setting
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import World
from pi05.train.plan.gpus import GPUS

PLAN_FLAGS = (
    Setting(
        "gpu",
        Literal[tuple(GPUS)] | None,
        None,
        "GPU to plan for; when not given the one in this machine, and without one a line for each that is known.",
    ),
    Setting("gpus", int, 1, "Number of GPUs, 1 or more; --parallel says how they share the network."),
    Setting("gpus_per_machine", int | None, None, "GPUs in each machine, 1 or more; when not given all, up to 8."),
    Setting("cameras", int | None, None, "Cameras that the policy sees; when not given those of --dataset.root, or 2."),
    Setting(
        "prompt_tokens",
        int | None,
        None,
        "Tokens of the longest prompt; when not given those of --dataset.root with the base's tokenizer, or 60.",
    ),
    Setting("json", bool, False, "Print JSON instead of tables."),
)
SETTINGS = (*PLAN_FLAGS, *EXTRA_FLAGS)


def plan(arguments: Sequence[str]) -> int:
    """Run `pi05 plan`."""
    request, asked = read_training_settings(arguments, PLAN_FLAGS)
    for name in ("gpus", "gpus_per_machine", "cameras", "prompt_tokens"):
        if asked[name] is not None and asked[name] < 1:
            raise ConfigError(f"--{name} cannot be {asked[name]}", wanted="1 or more", remedy=f"correct --{name}")
    for notice in request.notices:
        tell(f"note: {notice}", aside=True)
    from pi05.train.plan.report import print_plan
    from pi05.train.records.sources import settle_sources

    print_plan(
        settle_sources(request.config, here_only=True),
        gpu=asked["gpu"],
        world=World.planned(asked["gpus"], asked["gpus_per_machine"]),
        cameras=asked["cameras"],
        prompt_tokens=asked["prompt_tokens"],
        as_json=asked["json"],
    )
    return 0


COMMAND = Command(
    summary="Does a run fit a GPU, how fast, how long; what would fit.",
    usage="pi05 plan [--gpu=rtx4090|h100|...] [--gpus=N] [training flags] [--json]",
    run=plan,
    settings=TrainConfig,
    extra=SETTINGS,
    spellings=spellings,
)
