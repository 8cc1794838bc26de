"""Sizes of the network: the published ones, what is derived, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.model.config import ModelConfig, pi05, tiny, usual_steps


def test_the_full_size_is_that_of_the_published_model() -> None:
    sizes = pi05()
    assert sizes == ModelConfig()
    assert (sizes.image_size, sizes.patch_size, sizes.patches_per_image) == (224, 14, 256)
    assert (sizes.vision_width, sizes.vision_depth, sizes.vision_mlp, sizes.vision_heads) == (1152, 27, 4304, 16)
    assert (sizes.language_width, sizes.language_mlp, sizes.vocab_size) == (2048, 16384, 257152)
    assert (sizes.expert_width, sizes.expert_mlp, sizes.depth) == (1024, 4096, 18)
    assert (sizes.num_heads, sizes.num_kv_heads, sizes.head_dim) == (8, 1, 256)
    assert (sizes.action_dim, sizes.horizon, sizes.max_prompt_tokens) == (32, 50, 200)


@pytest.mark.parametrize("sizes", [pi05(), tiny()])
def test_round_trip(sizes: ModelConfig) -> None:
    assert ModelConfig.from_dict(sizes.to_dict()) == sizes


@pytest.mark.parametrize(
    "values",
    [
        {"depth": 0},
        {"depth": -1},
        {"image_size": 225},
        {"vision_width": 1150},
        {"num_heads": 8, "num_kv_heads": 3},
        {"head_dim": 255},
        {"expert_width": 1023},
        {"expert_width": 2},
    ],
)
def test_impossible_sizes_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**values)
    assert any(name in caught.value.problem for name in (*values, "num_heads"))
    assert caught.value.remedy


def test_unknown_sizes_are_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict({"widht": 3})
    assert caught.value.found == "widht"


@pytest.mark.parametrize(
    ("horizon", "fps", "executed"),
    [(50, 10.0, 10), (50, 50.0, 25), (10, 10.0, 5), (50, None, 25), (1, 30, 1), (9, 0.4, 1)],
)
def test_half_a_chunk_is_executed_and_no_more_than_a_second(horizon: int, fps: float | None, executed: int) -> None:
    assert usual_steps(horizon, fps) == executed
