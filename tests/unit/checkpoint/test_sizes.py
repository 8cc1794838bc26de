"""Sizes of the network from the shapes of a file, and what shapes do not tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pi05.checkpoint.load import load_model, read_config
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05

FREE = {"horizon": 50, "max_prompt_tokens": 200}
"""What a bare file does not tell and no weight depends on: π₀.₅'s own values."""


def test_jax_files_tell_their_sizes(files, config):
    assert read_config(files["openpi JAX"]) == replace(config, **FREE)


@pytest.mark.parametrize("layout", ["pi05", "openpi PyTorch", "LeRobot"])
def test_pytorch_files_do_not_tell_their_heads(files, layout):
    with pytest.raises(CheckpointError, match="how many attention heads") as caught:
        load_model(files[layout])
    text = str(caught.value)
    assert "vision_heads" in text
    assert "language_width=24" in text
    assert "image_size=12" in text
    assert "config=ModelConfig" in text


@pytest.mark.parametrize("layout", ["openpi PyTorch", "LeRobot"])
def test_full_size_is_recognised(layout):
    """Files of π₀.₅'s own widths need no config; shapes are enough, so no weights are written here."""
    from pi05.checkpoint import sizes
    from pi05.checkpoint.lerobot.names import lerobot_layout
    from pi05.checkpoint.openpi.names import openpi_layout
    from pi05.checkpoint.weights import sizes_from_shapes

    with torch.device("meta"):
        shapes = {name: tuple(parameter.shape) for name, parameter in Pi05(ModelConfig()).named_parameters()}
    kind, make = {"openpi PyTorch": ("openpi", openpi_layout), "LeRobot": ("lerobot", lerobot_layout)}[layout]
    found = make(18, 27).foreign_shapes(shapes)
    assert sizes.complete(sizes_from_shapes(kind, found), "here") == ModelConfig()
