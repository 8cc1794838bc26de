"""A tiny network on disk in each layout that can be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import write_tokenizer
from safetensors.torch import save_file
from torch import Tensor

from pi05.checkpoint.lerobot.names import lerobot_layout
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.checkpoint.tensor_map import TensorLayout
from pi05.data.cameras import CameraSlots
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.model.config import ModelConfig, pi05
from pi05.model.pi05 import Pi05

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """No two widths are equal, so that a swapped axis shows."""
    return ModelConfig(
        image_size=12, patch_size=4, vision_width=18, vision_depth=2, vision_mlp=26, vision_heads=3, vocab_size=40,
        language_width=24, language_mlp=34, expert_width=20, expert_mlp=28, depth=2, num_heads=8, num_kv_heads=2,
        head_dim=4, action_dim=6, horizon=5, max_prompt_tokens=22,
    )  # fmt: skip


@pytest.fixture
def model(config) -> Pi05:
    generator = torch.Generator().manual_seed(0)
    model = Pi05(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


@pytest.fixture
def weights(model) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def foreign(layout: TensorLayout, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in layout.to_foreign(weights).items()}


@pytest.fixture
def openpi_tensors(config, weights) -> dict[str, Tensor]:
    """What openpi saves: the head instead of the tied embedding, and the expert's dead head."""
    tensors = foreign(openpi_layout(config.depth, config.vision_depth), weights)
    head = "paligemma_with_expert.paligemma."
    tensors[head + "lm_head.weight"] = tensors.pop(head + "model.language_model.embed_tokens.weight")
    tensors["paligemma_with_expert.gemma_expert.lm_head.weight"] = torch.zeros(config.vocab_size, config.expert_width)
    return tensors


@pytest.fixture
def lerobot_tensors(config, weights) -> dict[str, Tensor]:
    """What LeRobot saves: both dead heads, of which the language model's differs from the embedding."""
    tensors = foreign(lerobot_layout(config.depth, config.vision_depth), weights)
    tensors["model.paligemma_with_expert.paligemma.lm_head.weight"] = torch.ones_like(weights["embedding.weight"])
    tensors["model.paligemma_with_expert.gemma_expert.lm_head.weight"] = torch.zeros(
        config.vocab_size, config.expert_width
    )
    return tensors


@pytest.fixture
def jax_arrays(config, weights) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in foreign(jax_layout(config), weights).items()}


@pytest.fixture
def files(tmp_path, weights, openpi_tensors, lerobot_tensors, jax_arrays) -> dict[str, Path]:
    """One file per layout, by the layout's title."""
    paths = {
        "pi05": tmp_path / "ours.safetensors",
        "openpi PyTorch": tmp_path / "openpi.safetensors",
        "LeRobot": tmp_path / "lerobot.safetensors",
        "openpi JAX": tmp_path / "params.npz",
    }
    save_file(weights, paths["pi05"])
    save_file(openpi_tensors, paths["openpi PyTorch"])
    save_file(lerobot_tensors, paths["LeRobot"])
    np.savez(paths["openpi JAX"], **jax_arrays)
    return paths


# --- a policy for the writers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def full_size() -> Pi05:
    """Return the full-size network without values."""
    with torch.device("meta"):
        return Pi05(pi05())


@pytest.fixture(scope="session")
def golden_keys() -> Callable[[str], dict[str, tuple[tuple[int, ...], str]]]:
    """Return a reader of the lists of tensor names, shapes and precisions at full size."""

    def read(name: str) -> dict[str, tuple[tuple[int, ...], str]]:
        lines = (GOLDEN / "keys" / name).read_text().splitlines()
        rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
        return {key: (tuple(map(int, re.findall(r"\d+", shape))), dtype) for key, shape, dtype in rows}

    return read


@pytest.fixture(scope="session")
def flat_stats() -> Callable[..., DimStats]:
    """Return a maker of statistics that are the same in every dimension."""

    def make(dim: int, low: float = -1.0, width: float = 2.0) -> DimStats:
        base, high = np.full(dim, low), np.full(dim, low + width)
        std = np.full(dim, width)
        return DimStats(mean=base + width / 2, std=std, min=base, max=high, q01=base, q99=high, count=9)

    return make


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Return the small byte-level tokenizer."""
    return Tokenizer.load(write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"))


@pytest.fixture
def processor(tokenizer: Tokenizer, flat_stats: Callable[..., DimStats]) -> Processor:
    """Return the transforms of an arm with two cameras."""
    return Processor(
        slots=CameraSlots(scene="observation.images.top", right_wrist="observation.images.hand"),
        state_stats=flat_stats(5),
        action_stats=flat_stats(4),
        tokenizer=tokenizer,
        image_size=224,
        action_dim=32,
        horizon=50,
        max_prompt_tokens=200,
        fps=30.0,
        action_names=("shoulder", "elbow", "wrist", "gripper"),
    )
