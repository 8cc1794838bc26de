"""Foreign → pi05 → foreign changes no bit, and neither does pi05 → foreign → pi05, whatever the sizes."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file
from torch import Tensor

from pi05.checkpoint.lerobot.names import lerobot_layout
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.checkpoint.tensor_map import TensorLayout
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
LAYOUTS = {
    "LeRobot": lambda config: lerobot_layout(config.depth, config.vision_depth),
    "openpi PyTorch": lambda config: openpi_layout(config.depth, config.vision_depth),
    "openpi JAX": jax_layout,
}
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}
small = st.integers(1, 5)


@st.composite
def configs(draw) -> ModelConfig:
    patch, vision_heads, kv_heads = draw(small), draw(small), draw(st.integers(1, 3))
    return ModelConfig(
        image_size=patch * draw(small), patch_size=patch, vision_width=vision_heads * draw(small),
        vision_depth=draw(st.integers(1, 3)), vision_mlp=draw(small), vision_heads=vision_heads,
        vocab_size=draw(small), language_width=draw(small), language_mlp=draw(small),
        expert_width=2 * draw(st.integers(2, 4)), expert_mlp=draw(small), depth=draw(st.integers(1, 3)),
        num_heads=kv_heads * draw(small), num_kv_heads=kv_heads, head_dim=2 * draw(small), action_dim=draw(small),
        horizon=3, max_prompt_tokens=4,
    )  # fmt: skip


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in Pi05(config).named_parameters()}


def random_bits(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return any bits at all, NaN and denormal numbers too."""
    limits = torch.iinfo(BITS[dtype])
    return torch.randint(limits.min, limits.max, shape, generator=generator, dtype=BITS[dtype]).view(dtype)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and torch.equal(tensor.view(BITS[tensor.dtype]), other[name].view(BITS[tensor.dtype]))
        for name, tensor in one.items()
    )


def rounds(layout: TensorLayout, foreign: dict[str, Tensor]) -> bool:
    ours = layout.to_ours(foreign)
    return same_bits(layout.to_foreign(ours), foreign) and same_bits(layout.to_ours(layout.to_foreign(ours)), ours)


@pytest.mark.parametrize("title", LAYOUTS)
@settings(max_examples=15)
@given(config=configs(), seed=st.integers(0, 2**32), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_any_sizes_and_any_bits(title, config, seed, dtype):
    layout = LAYOUTS[title](config)
    generator = torch.Generator().manual_seed(seed)
    shapes = layout.foreign_shapes(shapes_of(config))
    assert rounds(layout, {name: random_bits(shape, generator, dtype) for name, shape in shapes.items()})


@pytest.mark.parametrize("path", ["lerobot/weights.safetensors", "lerobot_checkpoints/full/model.safetensors"])
def test_what_lerobot_wrote(path):
    layout = lerobot_layout(3, 2)
    tensors = {name: tensor for name, tensor in load_file(GOLDEN / path).items() if name not in layout.dead}
    assert set(tensors) == set(layout.targets)
    assert rounds(layout, tensors)
