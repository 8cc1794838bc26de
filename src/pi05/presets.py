"""Named runs: functions that return a `TrainConfig`, to start from and to override flag by flag. Torch-free.

`sim` follows openpi's `pi05_libero` (`training/config.py`), `real` its fine-tuning defaults. Learning rates are in
`train/method.py`, since they follow from the method too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pi05.errors import ConfigError
from pi05.train.config import TINY_BASE, EmaConfig, PolicyConfig, TrainConfig


def tiny() -> TrainConfig:
    """Fine-tune the packaged base on a CPU: 48-pixel images, two million parameters, minutes."""
    return TrainConfig(
        preset="tiny",
        network="tiny",
        policy=PolicyConfig(path=str(TINY_BASE)),
        precision="float32",
        batch_size=64,
        steps=2_000,
        num_workers=0,
        log_freq=20,
        save_freq=500,
        eval_steps=250,
    )


def demo() -> TrainConfig:
    """Fine-tune the packaged base on the table-top demonstrations of `pi05 demo`: about four minutes on two cores.

    No augmentation: openpi's turns colours by up to a tenth of the circle, which makes orange red, and here the colour
    is the name. Two flow draws per observation, because the expert is cheap beside vision and language.
    """
    base = tiny()
    return replace(
        base,
        preset="demo",
        policy=replace(base.policy, n_action_steps=3),
        augment=False,
        flow_samples=2,
        batch_size=32,
        steps=1_500,
        ema=EmaConfig(enable=True, decay=0.995),
        log_freq=100,
        save_freq=500,
        eval_steps=500,
    )


def sim() -> TrainConfig:
    """Fine-tune for LIBERO: openpi's recipe (batch 256 in total, constant rate after warm-up, no state in the prompt).

    A chunk is 10 actions, of which 5 are executed. EMA costs one more float32 copy of the weights; where memory does
    not allow it, `--ema.enable=false`.
    """
    return TrainConfig(
        preset="sim",
        policy=PolicyConfig(
            chunk_size=10,
            n_action_steps=5,
            scheduler_warmup_steps=10_000,
            scheduler_decay_steps=1_000_000,
            gradient_checkpointing=True,
        ),
        ema=EmaConfig(enable=True, decay=0.999),
        prompt_format="none",
        global_batch_size=256,
        gradient_accumulation_steps=8,
        steps=30_000,
    )


def real() -> TrainConfig:
    """Fine-tune on recordings of your own robot: chunks of 50 actions, state in the prompt, slots found by name."""
    return TrainConfig(
        preset="real",
        policy=PolicyConfig(chunk_size=50, gradient_checkpointing=True),
        prompt_format="state",
        batch_size=32,
        steps=20_000,
        save_freq=2_500,
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {"tiny": tiny, "demo": demo, "sim": sim, "real": real}


def get(name: str) -> TrainConfig:
    """Return a preset by its name. Raises ConfigError for a name that is none."""
    if name not in PRESETS:
        names = " or ".join(PRESETS)
        raise ConfigError(f"there is no preset {name}", wanted=names, found=name, remedy=f"use --preset={names}")
    return PRESETS[name]()
