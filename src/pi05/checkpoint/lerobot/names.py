"""LeRobot's π₀.₅ folders: `model.safetensors` with openpi's PyTorch names behind "model.", and `config.json`.

LeRobot saves both dead language heads; its embedding and language head are two tensors, of which the embedding is used.
Processors and statistics of the folder are not read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pi05.checkpoint.openpi.names import openpi_layout
from pi05.checkpoint.tensor_map import TensorLayout
from pi05.errors import CheckpointError

PREFIX = "model."
QUERY_HEADS = 8
"""Query heads of every LeRobot checkpoint: its joint attention has the number built in."""


def lerobot_layout(depth: int, vision_depth: int) -> TensorLayout:
    """Return the layout of a LeRobot weight file."""
    return openpi_layout(depth, vision_depth, PREFIX, "LeRobot")


def lerobot_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes that LeRobot's `config.json` tells and its tensors do not.

    Raises CheckpointError for another policy than π₀.₅. The variant names are not read: the tensors are the truth.
    """
    if config.get("type") != "pi05":
        raise CheckpointError(
            "the LeRobot checkpoint holds another policy",
            wanted='"type": "pi05" in config.json',
            found=repr(config.get("type")),
            remedy="use a π₀.₅ checkpoint, such as lerobot/pi05_base; the type of a plugin, such as pi05_openpi, may "
            'preprocess in its own way: write "type": "pi05" only if LeRobot\'s own policy, renamed, made the folder',
        )
    names = {"chunk_size": "horizon", "tokenizer_max_length": "max_prompt_tokens"}
    return {ours: int(config[theirs]) for theirs, ours in names.items() if theirs in config}
