"""Which shapes are planned with: those of the data set, or assumed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import write_dataset

from pi05.commands.train import read_training_settings
from pi05.data.prompt import format_prompt
from pi05.model.config import tiny
from pi05.train.inputs.dataset import open_dataset
from pi05.train.inputs.inherit import open_tokenizer
from pi05.train.network import locate_start
from pi05.train.plan.shapes import plan_shapes


def test_shapes_come_from_the_data_set(tmp_path: Path) -> None:
    root = str(write_dataset(tmp_path / "set").root)
    config, _ = read_training_settings(
        ["--preset=tiny", f"--dataset.root={root}", "--allow=[memory]", "--batch_size=3"]
    )
    base = locate_start(config.config)
    assumed = plan_shapes(config.config, tiny(), base, world_size=1, cameras=None, prompt_tokens=None)
    dataset = open_dataset(config.config)
    assert assumed.shapes.batch == 3
    assert assumed.shapes.cameras == len(dataset.camera_keys)
    tokenizer = open_tokenizer(config.config, tiny(), base)
    longest = 0
    for frame in range(dataset.num_frames):
        state = np.clip(dataset.states()[frame], -0.9, 0.9)
        longest = max(longest, len(tokenizer.encode(format_prompt(dataset.task(frame), state, "state"))))
    assert longest <= assumed.shapes.prompt_tokens
    assert any("data set" in line for line in assumed.told)
