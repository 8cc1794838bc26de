"""Loading takes the network's memory and at most one copy of the largest tensor, measured in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import load_program

from pi05.model.config import ModelConfig

pytestmark = pytest.mark.process

MB = 2**20
SLACK = 24 * MB
"""For Python, the allocator and tensorstore's buffers; a second copy of the network is more than twice as large."""

load_memory = load_program("benchmarks/load_memory.py")


@pytest.fixture(scope="module")
def sizes() -> ModelConfig:
    """A network of 30 million parameters; the largest tensor is a stacked leaf of 67 MB in JAX's folder."""
    return ModelConfig(
        image_size=28, patch_size=14, vision_width=64, vision_depth=2, vision_mlp=128, vision_heads=4,
        vocab_size=8192, language_width=512, language_mlp=8192, expert_width=64, expert_mlp=128, depth=2,
        num_heads=8, num_kv_heads=1, head_dim=64, action_dim=8, horizon=5, max_prompt_tokens=16,
    )  # fmt: skip


def measured(folder: Path, sizes: ModelConfig, dtype: str, *more: str) -> dict[str, int]:
    command = [
        sys.executable,
        load_memory.__file__,
        "--measure",
        str(folder),
        dtype,
        json.dumps(sizes.to_dict()),
        *more,
    ]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back: no allocator's reserves
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(answer.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "writer",
    [
        "write_lerobot",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("write_jax_whole", "write_jax_layers")),
    ],
)
def test_one_copy_of_the_largest_tensor(tmp_path, sizes, writer):
    getattr(load_memory, writer)(tmp_path, sizes)
    for dtype in ("float32", "bfloat16"):
        found = measured(tmp_path, sizes, dtype)
        assert found["network"] > 55 * MB
        assert found["peak_above_network"] <= found["largest_tensor"] + SLACK, (dtype, found)
        if writer == "write_lerobot":  # mapped: nothing is held twice
            assert found["peak_above_network"] <= SLACK, (dtype, found)
        else:
            assert found["largest_tensor"] == 64 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_measurement_sees_a_second_copy(tmp_path, sizes):
    load_memory.write_lerobot(tmp_path, sizes)
    found = measured(tmp_path, sizes, "bfloat16", "--naive")
    assert found["peak_above_network"] > found["largest_tensor"] + SLACK
