"""The work of batches follows their shapes; the peak is that of the GPU in bfloat16."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import CONFIG, make_batch

from pi05.train.config import TrainConfig
from pi05.train.plan.flops import expert_work, flops_per_sample
from pi05.train.plan.work import WorkCount, count_work
from pi05.train.policy_config import PolicyConfig

CPU = torch.device("cpu")


def test_trimmed_tokens_and_missing_cameras_are_no_work() -> None:
    count = WorkCount(sizes=CONFIG, part="full")
    batch = make_batch(3)
    one = flops_per_sample(CONFIG, cameras=2, prompt_tokens=8, part="full")
    assert count.of([batch]) == 3 * one
    assert count.of([batch, batch]) == 6 * one
    shorter = replace(batch, tokens=batch.tokens[:, :4], images=batch.images[:, :1])
    assert count.of([shorter]) == 3 * flops_per_sample(CONFIG, cameras=1, prompt_tokens=4, part="full")


def test_a_prefix_that_was_computed_before_is_no_work() -> None:
    count = WorkCount(sizes=CONFIG, part="expert", flow_samples=3)
    prefix = torch.zeros(2, CONFIG.depth, 2, CONFIG.num_kv_heads, 16, CONFIG.head_dim)
    ends, layers = expert_work(CONFIG, 16, 0)
    once = ends.forward + ends.backward + layers.forward + layers.backward
    assert count.of([replace(make_batch(2), prefix=prefix)]) == pytest.approx(2 * 3 * once)
    assert 2 * 3 * once < count.of([make_batch(2)])


def test_the_peak_is_that_of_bfloat16_and_of_no_other_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    gpu = torch.device("cuda", 0)
    assert count_work(TrainConfig(), CONFIG, gpu).peak == 989e12
    assert count_work(TrainConfig(precision="bf16-sr"), CONFIG, gpu).peak == 989e12
    assert count_work(TrainConfig(precision="float32"), CONFIG, gpu).peak is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another maker's")
    assert count_work(TrainConfig(), CONFIG, gpu).peak is None


def test_methods_of_the_configuration() -> None:
    assert count_work(TrainConfig(), CONFIG, CPU).part == "full"
    assert count_work(TrainConfig(policy=PolicyConfig(train_expert_only=True)), CONFIG, CPU).part == "expert"
    lora = count_work(TrainConfig(policy=PolicyConfig(use_peft=True)), CONFIG, CPU)
    assert (lora.part, lora.lora_rank, lora.peak) == ("full", 16, None)
    both = TrainConfig(policy=PolicyConfig(use_peft=True, train_expert_only=True))
    found = count_work(both, CONFIG, CPU)
    assert (found.part, found.lora_rank) == ("expert", 16)
