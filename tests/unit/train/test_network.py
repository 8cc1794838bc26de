"""Where weights come from, in which precision they are used, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pi05.errors import CheckpointError, ConfigError
from pi05.machine import choose_device
from pi05.model.config import ModelConfig, tiny
from pi05.model.pi05 import Pi05
from pi05.train.config import PolicyConfig, TrainConfig
from pi05.train.lora import adapt
from pi05.train.lora_config import PeftConfig
from pi05.train.network import _first_device, build_network, choose_sizes, compute_dtype, locate_start, own_device
from pi05.types import Batch

CPU = torch.device("cpu")


def scratch(seed: int = 1, **settings: object) -> TrainConfig:
    return TrainConfig(from_scratch=True, network="tiny", seed=seed, **settings)  # type: ignore[arg-type]


def test_scratch_is_a_function_of_the_seed() -> None:
    one, same, other = (build_network(scratch(seed), tiny(), CPU, None).model for seed in (1, 1, 2))
    weights = dict(one.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in same.named_parameters())
    assert not torch.equal(other.embedding.weight, one.embedding.weight)


def test_sizes_from_scratch_take_chunk_and_prompt_length() -> None:
    sizes = choose_sizes(scratch(policy=PolicyConfig(chunk_size=7, tokenizer_max_length=33)), None)
    assert sizes == replace(tiny(), horizon=7, max_prompt_tokens=33)
    assert choose_sizes(TrainConfig(from_scratch=True), None) == ModelConfig()


def test_nothing_trains_from_random_weights_by_accident() -> None:
    with pytest.raises(ConfigError, match="no weights to start from"):
        locate_start(TrainConfig())


def test_scratch_has_no_base() -> None:
    assert locate_start(scratch()) is None


def test_a_base_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lerobot/pi05_base is not in reach"):
        locate_start(TrainConfig(policy=PolicyConfig(path="lerobot/pi05_base")))
    with pytest.raises(CheckpointError, match="the base checkpoint is not there"):
        locate_start(TrainConfig(policy=PolicyConfig(path="./nowhere")))


def test_mixed_precision_keeps_float32_weights_and_gradients() -> None:
    """Loss tolerance: bfloat16 keeps 8 bits, openpi's own two precisions differ by as much."""
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        images=torch.randint(0, 256, (2, 1, 48, 48, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, 100, (2, 8), generator=generator),
        token_mask=None,
        actions=torch.randn(2, 10, 32, generator=generator),
        trimmed=True,
    )
    losses = {}
    for precision in ("float32", "mixed"):
        config = scratch(precision=precision)
        model = build_network(config, tiny(), CPU, None).model
        assert model.compute_dtype == compute_dtype(precision)
        loss = model.loss(batch, generator=torch.Generator().manual_seed(0)).mean()
        loss.backward()
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
        losses[precision] = float(loss.detach())
    assert losses["mixed"] == pytest.approx(losses["float32"], rel=2e-2)
    assert losses["mixed"] != losses["float32"]


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="no device cuda:63") as refusal:
        choose_device("cuda:63")
    assert "use auto or cpu" in refusal.value.remedy


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
@pytest.mark.parametrize("rank", [None, 1])
def test_a_run_takes_a_gpu_by_its_number(name: str, rank: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone the first one; PyTorch makes no device current whose number is not told."""
    made_current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", made_current.append, raising=False)
    for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        if rank is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, str(rank))
    number = 1 if name == "cuda:1" else rank or 0
    assert own_device(name) == torch.device("cuda", number)
    assert made_current == [number]


@pytest.mark.parametrize(
    ("precision", "lora", "quantize", "first"),
    [
        ("mixed", False, "none", "cuda"),
        ("float32", False, "none", "cuda"),
        ("bf16-sr", False, "none", "cpu"),
        ("mixed", True, "none", "cpu"),
        ("float32", True, "none", "cuda"),
        ("float32", True, "int8", "cpu"),
    ],
)
def test_what_shall_not_reach_the_device_in_float32_is_read_on_the_cpu(
    precision: Any, lora: bool, quantize: Any, first: str
) -> None:
    config = TrainConfig(precision=precision, policy=PolicyConfig(use_peft=lora), peft=PeftConfig(quantize=quantize))
    assert _first_device(config, torch.device("cuda", 0)).type == first


def test_the_frozen_base_is_rounded_before_it_reaches_the_device() -> None:
    model = Pi05(tiny(), torch.bfloat16)
    adapt(model, TrainConfig(policy=PolicyConfig(use_peft=True), peft=PeftConfig(r=2)))
    layer = model.language.layers[0].mlp.up
    assert (layer.weight.dtype, layer.lora_a.dtype) == (torch.bfloat16, torch.float32)
    assert model.language.layers[0].mlp_norm.scale.dtype == torch.float32
