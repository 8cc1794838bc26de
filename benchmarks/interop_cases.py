"""What `interop_lerobot.py` runs: our runs, their exports, LeRobot's runs, and the flags of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LIMIT = 1e-4
"""Largest difference of actions that passes, normalised and in robot units (float32 on both sides)."""
HALF_LIMIT = 2e-2
"""The same where LeRobot computes in bfloat16 and we in float32; openpi itself differs by 7e-3 between the two."""


@dataclass(frozen=True)
class Export:
    """One folder that `pi05 export --to lerobot` writes."""

    title: str
    name: str
    run: str
    flags: tuple[str, ...] = ()
    limit: float = LIMIT


OUR_RUNS: dict[str, tuple[str, ...]] = {
    "full": (),
    "relative": ("--policy.use_relative_actions=true", "--policy.relative_exclude_joints=[opening]"),
    "mean_std": ("--policy.normalization_mapping={VISUAL: IDENTITY, STATE: MEAN_STD, ACTION: MEAN_STD}",),
    "lora": ("--method=lora", "--peft.r=4"),
}
EXPORTS = (
    Export("full fine-tune", "full", "full"),
    Export("full fine-tune, bfloat16", "bfloat16", "full", ("--dtype=bfloat16",), HALF_LIMIT),
    Export("relative actions", "relative", "relative"),
    Export("mean and deviation", "mean_std", "mean_std"),
    Export("LoRA, merged", "lora_merged", "lora"),
    Export("LoRA, adapter only", "lora_adapter", "lora", ("--adapter_only",)),
)
ROLLOUT_TASK = "drop the orange star into the cyan bowl"
LEROBOT_RUNS: dict[str, list[str]] = {
    "quantiles": [],
    "mean and deviation": [
        '--policy.normalization_mapping={"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}'
    ],
    "relative actions": ["--policy.use_relative_actions=true", '--policy.relative_exclude_joints=["opening"]'],
    "empty camera": ["--policy.empty_cameras=1"],
    "LoRA": ["--peft.method_type=LORA", "--peft.r=4"],
    "our export, trained on": [],
}
LEROBOT_BASES = {"our export, trained on": "exports/full"}
"""What a run of LeRobot starts from, where that is not LeRobot's base."""


def train_flags(name: str, folder: Path, base: Path, tokenizer: Path) -> list[str]:
    """Return the flags of `pi05 train` for one of our runs: few steps, but large enough to move every weight."""
    return [
        f"--policy.path={base}",
        f"--policy.tokenizer_path={tokenizer}",
        f"--dataset.root={folder / 'data'}",
        f"--output_dir={folder / name}",
        "--dataset.eval_split=0",
        "--policy.device=cpu",
        "--precision=float32",
        "--steps=4",
        "--save_freq=4",
        "--eval_steps=0",
        "--batch_size=2",
        "--num_workers=0",
        "--threads=1",
        "--policy.optimizer_lr=1e-3",
        "--policy.scheduler_warmup_steps=1",
        *OUR_RUNS.get(name, ()),
    ]


def lerobot_flags(command: str, policy: Path, out: Path) -> list[str]:
    """Return the flags of LeRobot's train, eval or rollout command."""
    flags = [f"--policy.path={policy}", "--policy.device=cpu"]
    if command == "eval":
        return [*flags, "--env.type=tabletop", "--eval.n_episodes=2", "--eval.batch_size=1", f"--output_dir={out}"]
    if command == "rollout":
        runtime = ["--fps=10", "--duration=6", "--play_sounds=false", "--return_to_initial_position=false"]
        return [*flags, "--robot.type=tabletop", f"--task={ROLLOUT_TASK}", *runtime]
    return [
        *flags,
        f"--output_dir={out}",
        "--dataset.repo_id=local/tabletop",
        "--dataset.video_backend=pyav",
        "--steps=2",
        "--save_freq=2",
        "--batch_size=2",
        "--num_workers=0",
        "--policy.optimizer_lr=1e-3",
        "--policy.push_to_hub=false",  # trackers are off by default, and 0.7 has no --wandb any more
    ]
