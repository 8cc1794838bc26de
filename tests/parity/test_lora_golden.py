"""LeRobot's own LoRA checkpoint on its base: the actions that LeRobot computed, with the adapter apart and merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pi05.checkpoint.load import load_model, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.adapter import Adapter, apply_adapter, read_adapter
from pi05.data.resize import interpolate_with_pad
from pi05.model.lora import lora_modules, merge_lora
from pi05.model.pi05 import Pi05
from pi05.types import Batch

FOLDERS = Path(__file__).resolve().parent.parent / "golden" / "lerobot_checkpoints"
TOLERANCE = 1e-4
"""Absolute; float32 sums in another order, over ten Euler steps."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(FOLDERS / "golden_actions.safetensors")


@pytest.fixture(scope="module")
def batch(golden) -> Batch:
    """The pictures through LeRobot's resize; the third camera is missing."""
    pictures = [golden[f"input.observation.images.{name}"][0].permute(1, 2, 0) for name in ("base", "wrist")]
    cameras = [torch.from_numpy(interpolate_with_pad(picture.numpy(), 224)) for picture in pictures]
    return Batch(
        images=torch.stack([*cameras, torch.zeros_like(cameras[0])])[None] * 2 - 1,
        image_mask=torch.tensor([[True, True, False]]),
        tokens=golden["lora.tokens"],
        token_mask=golden["lora.token_mask"].bool(),
    )


@pytest.fixture
def base(lerobot) -> Pi05:
    return load_model(FOLDERS / "full", config=lerobot.config)


@pytest.fixture
def adapter(base) -> Adapter:
    return read_adapter(FOLDERS / "lora", base)


def actions(model: Pi05, batch: Batch, golden: dict[str, Tensor]) -> Tensor:
    return model.sample_actions(batch, golden["lora.noise"])[..., :7]


def test_adapter_is_complete(adapter):
    towers = sorted({name.split(".layers")[0] for name in adapter.specs})
    assert towers == ["action_in", "action_out", "expert"]
    assert len(adapter.specs) == 8
    assert len(adapter.lora) == 16
    assert {(spec.rank, spec.scaling) for spec in adapter.specs.values()} == {(4, 2.0)}
    assert (adapter.full, adapter.ignored) == ({}, {})
    assert adapter.config["base_model_name_or_path"] == "../full"
    assert all(tensor.any() for tensor in adapter.lora.values())


@pytest.mark.parametrize("merged", [False, True])
def test_actions(base, adapter, batch, golden, compare, merged):
    """The base alone is farther away than ten times the tolerance: the adapter counts."""
    without = (actions(base, batch, golden) - golden["lora.normalised_actions"]).abs().max()
    apply_adapter(base, adapter)
    if merged:
        merge_lora(base)
    assert len(lora_modules(base)) == (0 if merged else 8)
    compare("actions with the adapter", actions(base, batch, golden), golden["lora.normalised_actions"], TOLERANCE)
    assert without > 10 * TOLERANCE


def test_the_folder_finds_its_base(lerobot, batch, golden, compare):
    """`load_model` of the folder: the base beside it, which adapter_config.json names; no hash is recorded there."""
    model, receipt = read_model(locate(FOLDERS / "lora"), config=lerobot.config)
    compare("actions of the folder", actions(model, batch, golden), golden["lora.normalised_actions"], TOLERANCE)
    assert receipt.adapter is not None
    assert Path(receipt.adapter.base).resolve() == FOLDERS / "full"
    assert receipt.adapter.base_check == "base not verified: the adapter records no hash"
    apart = load_model(FOLDERS / "lora", config=lerobot.config, merge=False)
    assert len(lora_modules(apart)) == 8
    compare("actions, adapter apart", actions(apart, batch, golden), golden["lora.normalised_actions"], TOLERANCE)


def test_the_folder_of_full_weights(lerobot, batch, golden, compare):
    batch = replace(batch, tokens=golden["full.tokens"], token_mask=golden["full.token_mask"].bool())
    model = load_model(FOLDERS / "full", config=lerobot.config)
    chunk = model.sample_actions(batch, golden["full.noise"])[..., :7]
    compare("actions of the full folder", chunk, golden["full.normalised_actions"], TOLERANCE)
