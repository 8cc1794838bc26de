"""A folder that LeRobot wrote, to be changed by a test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pi05.checkpoint.lerobot.read import read_lerobot
from pi05.checkpoint.policy_options import PolicyOptions, ProcessorSource
from pi05.model.config import ModelConfig

GOLDEN = Path(__file__).resolve().parent / "golden" / "lerobot_checkpoints" / "full"
FRONT, HAND, THIRD = "observation.images.front", "observation.images.hand", "observation.images.right_wrist_0_rgb"
BASE, WRIST = "observation.images.base", "observation.images.wrist"
SIZES = ModelConfig(vocab_size=1024, horizon=10, max_prompt_tokens=48)
PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
Edit = Callable[[dict[str, Any]], object]


class Folder:
    """A copy of LeRobot's folder, without its weights, that a test changes."""

    def __init__(self, path: Path, *, weights: bool = False) -> None:
        left_out = () if weights else ("model.safetensors",)
        shutil.copytree(GOLDEN, path, ignore=shutil.ignore_patterns(*left_out))
        self.path = path

    def as_from_a_base(self) -> None:
        """Make it what `lerobot-train --policy.path=lerobot/pi05_base --rename_map=…` writes.

        config.json has the base's state shape and cameras; the statistics have the data's, by the data's names.
        """
        third = {"type": "VISUAL", "shape": [3, 224, 224]}

        def as_the_base(values: dict[str, Any]) -> None:
            values["input_features"]["observation.state"]["shape"] = [32]
            values["input_features"][THIRD] = third

        def by_the_datas_names(tensors: dict[str, torch.Tensor]) -> None:
            for ours, theirs in ((BASE, FRONT), (WRIST, HAND)):
                for key in [key for key in tensors if key.startswith(ours + ".")]:
                    tensors[key.replace(ours, theirs)] = tensors.pop(key)

        self.edit("config.json", as_the_base)
        self.step(PRE, 0, rename_map={FRONT: BASE, HAND: WRIST})
        self.statistics(by_the_datas_names)

    def edit(self, name: str, change: Edit) -> None:
        """Change a JSON file."""
        values = json.loads((self.path / name).read_text())
        change(values)
        (self.path / name).write_text(json.dumps(values))

    def step(self, name: str, number: int, **settings: Any) -> None:
        """Set settings of a step; None removes one."""

        def change(values: dict[str, Any]) -> None:
            config = values["steps"][number]["config"]
            config.update(settings)
            for key in [key for key, value in settings.items() if value is None]:
                del config[key]

        self.edit(name, change)

    def config(self, **settings: Any) -> None:
        """Set fields of config.json."""
        self.edit("config.json", lambda values: values.update(settings))

    def forget(self, *names: str) -> None:
        """Remove fields of config.json."""
        self.edit("config.json", lambda values: [values.pop(name, None) for name in names])

    def statistics(self, change: Callable[[dict[str, torch.Tensor]], object], *names: str) -> None:
        """Change state files; both when none is named."""
        for file in self.path.glob("*processor.safetensors"):
            if not names or any(name in file.name for name in names):
                tensors = load_file(file)
                change(tensors)
                save_file(tensors, file)

    def read(self, **options: Any) -> ProcessorSource:
        """Read the folder."""
        return read_lerobot(self.path, SIZES, PolicyOptions(**options))
