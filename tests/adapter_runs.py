"""Short runs of LoRA and QLoRA by the words of the command line, and what tests read from them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from pi05.cli import main
from pi05.commands.train import read_command
from pi05.model.pi05 import Pi05
from pi05.train.loop import train
from pi05.types import Batch

RUN: dict[str, Any] = {
    "peft__r": 4,
    "steps": 8,
    "policy__scheduler_decay_steps": 8,
    "policy__scheduler_warmup_steps": 2,
    "gradient_accumulation_steps": 2,
    "ema__enable": True,
    "save_freq": 4,
    "eval_steps": 3,
    "eval_frames": 4,
    "log_freq": 1,
}
"""Eight steps with everything that resume must restore; the method is the test's."""
SAME_PRODUCT = 1e-5
"""Merged and unmerged differ by the order of float32 sums."""


def flags(workshop: Any, run: Path, base: Path, **settings: object) -> list[str]:
    words = workshop.flags(run, policy__path=base, **settings)
    return [word for word in words if not word.startswith(("--from_scratch", "--policy.tokenizer_path"))]


def run(words: list[str]) -> None:
    train(read_command(words).config, console=False)


def learn(folder: Path, *words: str) -> tuple[Path, str]:
    """Train 40 steps on demonstrations of the simulator through the command; return the run, and what it printed."""
    assert main(["collect", "--episodes=8", f"--output={folder / 'data'}"]) == 0
    places = (f"--dataset.root={folder / 'data'}", f"--dataset.cache_dir={folder / 'cache'}")
    usual = ("--steps=40", "--log_freq=10", "--batch_size=16", "--eval_steps=0", "--augment=false", "--threads=1")
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        assert main(["train", "--preset=tiny", *places, *usual, f"--output_dir={folder / 'run'}", *words]) == 0
    return folder / "run", text.getvalue()


def losses(run_dir: Path) -> list[float]:
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if record["type"] == "train"]


def actions(model: Pi05) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        images=torch.randint(0, 256, (2, 1, 48, 48, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, 100, (2, 9), generator=generator),
        token_mask=None,
    )
    return model.eval().sample_actions(batch, generator=torch.Generator().manual_seed(1))
