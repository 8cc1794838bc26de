"""The probe runs against the CPU's kernels here, and against kernels that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_attention import EITHER, block_attention
from torch import Tensor

from pi05.errors import TrainingError
from pi05.model.config import tiny
from pi05.model.packed_keys import Varlen
from pi05.train.device import attention_probe
from pi05.train.device.attention_cases import AttentionCase, StepLengths, cases_of
from pi05.train.device.attention_probe import (
    EVERY,
    LOW_SCORE,
    TOLERANCE,
    Probe,
    ProbedCase,
    _examine,
    chosen_kernel,
    draw_case,
    probe_attention,
    suspect_attention,
)
from pi05.train.device.kernels import PACKED_NAME

CPU = torch.device("cpu")
LENGTHS = StepLengths(batch=4, cameras=1, shortest=5, longest=8, bucket=8)
CASE = AttentionCase(tower="language", batch=2, queries=9, keys=13, heads=4, kv_heads=1, head_dim=8, shortest=7)


@pytest.fixture(autouse=True)
def _kernels_stay_on() -> Iterator[None]:
    yield
    for switch in attention_probe.SWITCHES.values():
        switch(True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_of_a_cpu_pass(dtype: torch.dtype) -> None:
    before = torch.get_rng_state()
    probe = probe_attention(cases_of(tiny(), LENGTHS), CPU, dtype)
    assert not probe.switched_off
    assert {each.case.tower for each in probe.cases} == {"vision", "language", "expert"}
    assert {each.kernel for each in probe.cases} == {"flash"}
    assert all(0 <= each.difference < attention_probe.TOLERANCE[dtype] for each in probe.cases)
    line = probe.line()
    assert line.startswith("attention: vision flash, language flash, expert flash, language flash masked, expert")
    assert "of float32's" in line
    assert torch.equal(torch.get_rng_state(), before), "a run's draws are not touched"


def test_some_queries_score_low_with_every_key() -> None:
    drawn = draw_case(CASE, CPU, torch.bfloat16)
    scores = torch.einsum("bqnh,bklh->bqnl", drawn.query.float(), drawn.key.float()) / CASE.head_dim**0.5
    sums = scores.logsumexp(dim=-1)
    assert (sums[:, ::EVERY] < LOW_SCORE + 30).all()
    assert (sums[:, 1::EVERY] > -30).all()
    assert drawn.valid is not None
    assert drawn.valid.sum(dim=1).tolist() == [13, 7]


def spoiled(spoil: Callable[[Tensor], Tensor], always: bool = False) -> Callable[..., Tensor]:
    """Return PyTorch's attention with something done to its result while flash is on."""

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        seen = right(query, key, value, attn_mask)
        return spoil(seen) if always or torch.backends.cuda.flash_sdp_enabled() else seen

    right = F.scaled_dot_product_attention
    return attention


class _NanBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, torch.nan)


def _raise(_: Tensor) -> Tensor:
    raise RuntimeError("no plan for these sizes\nsecond line")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_NanBackward.apply, "NaN or infinity in the gradient of the queries"),
        (lambda seen: seen + 0.2 * seen.detach(), "the result differs from float32's by 20%"),
        (_raise, "no plan for these sizes"),
    ],
    ids=["nan", "difference", "exception"],
)
def test_a_kernel_that_is_wrong_is_switched_off_and_said_so(
    spoil: Callable[[Tensor], Tensor], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(F, "scaled_dot_product_attention", spoiled(spoil))
    probe = probe_attention([CASE], CPU, torch.float32)
    assert probe.switched_off == (f"flash is switched off: {told} (language, 13 keys, masked)",)
    assert [each.kernel for each in probe.cases] == ["math"]
    assert not torch.backends.cuda.flash_sdp_enabled()


def test_what_was_looked_at_before_a_kernel_is_switched_off_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN on Hopper: right without a mask, wrong with one; the images' attention then has another kernel, too."""
    right, seen = F.scaled_dot_product_attention, []

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        flash = torch.backends.cuda.flash_sdp_enabled()
        seen.append((attn_mask is not None, flash))
        result = right(query, key, value, attn_mask)
        return _NanBackward.apply(result) if flash and attn_mask is not None else result

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    free = replace(CASE, tower="vision", shortest=CASE.keys)
    probe = probe_attention([free, CASE], CPU, torch.float32)
    assert [(each.case, each.kernel) for each in probe.cases] == [(free, "math"), (CASE, "math")]
    assert seen == [(False, True), (True, True), (False, False), (True, False)]
    assert len(probe.switched_off) == 1


def test_cudnn_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92000)
    probe = Probe(cases=(ProbedCase(case=CASE, kernel="cudnn", difference=0.004),))
    assert probe.line() == "attention: language cuDNN 9.20 masked; gradients within 0.40% of float32's"


def test_no_right_kernel_at_all_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "scaled_dot_product_attention", spoiled(lambda seen: 3 * seen, always=True))
    with pytest.raises(TrainingError, match="no kernel of attention computes right gradients") as failure:
        probe_attention([CASE], CPU, torch.float32)
    assert "math (all scores) is switched off" in str(failure.value.found)


def test_all_scores_are_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is that of the GPU; the kernel is the CPU's, since there is no other here."""
    torch.backends.cuda.enable_flash_sdp(False)
    monkeypatch.setattr(attention_probe, "draw_case", lambda case, device, dtype: draw_case(case, CPU, dtype))
    with pytest.raises(TrainingError, match="no fast kernel on this GPU") as failure:
        probe_attention([CASE], torch.device("cuda"), torch.float32)
    assert "--allow=slow_attention" in failure.value.remedy
    probe = probe_attention([CASE], torch.device("cuda"), torch.float32, ["slow_attention"])
    assert [each.kernel for each in probe.cases] == ["math"]


def test_a_difference_is_measured_against_plain_arithmetic() -> None:
    drawn = draw_case(CASE, CPU, torch.float32)
    assert chosen_kernel(drawn) == "flash"
    difference, fault = _examine(drawn, torch.float32)
    assert fault is None
    assert 0 < difference < TOLERANCE[torch.float32] / 10


def test_nothing_is_suspected_without_a_gpu() -> None:
    assert torch.cuda.is_available() or suspect_attention() is None


@pytest.mark.parametrize(("capability", "cudnn", "suspected"), [(9, True, True), (9, False, False), (8, True, False)])
def test_cudnn_is_suspected_where_it_may_have_run(
    capability: int, cudnn: bool, suspected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (capability, 0))
    monkeypatch.setattr(torch.backends.cuda, "cudnn_sdp_enabled", lambda: cudnn)
    found = suspect_attention()
    assert (found is not None) is suspected
    assert found is None or "TORCH_CUDNN_SDPA_DEPRIORITIZED=1" in found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("varlen", EITHER.values(), ids=EITHER)
def test_packed_keys_that_are_right_take_the_place_of_masks(varlen: Varlen, dtype: torch.dtype) -> None:
    probe = probe_attention(cases_of(tiny(), LENGTHS), CPU, dtype, varlen=varlen)
    assert probe.packed is not None
    assert 0 <= probe.packed < attention_probe.TOLERANCE[dtype]
    assert not probe.switched_off
    line = probe.line()
    assert f"language {PACKED_NAME}, expert {PACKED_NAME}" in line
    assert "vision flash," in line
    assert "masked" not in line
    whole = StepLengths(batch=4, cameras=1, shortest=8, longest=8, bucket=1)
    assert probe_attention(cases_of(tiny(), whole), CPU, dtype, varlen=varlen).packed is None, "there is no mask"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_NanBackward.apply, "NaN or infinity in the gradient of the queries"),
        (lambda seen: seen * 1.2, "differs from float32's by 20%"),
        (_raise, "no plan for these sizes"),
    ],
    ids=["nan", "difference", "exception"],
)
def test_packed_keys_that_are_wrong_are_not_taken_and_said_so(spoil: Callable[[Tensor], Tensor], told: str) -> None:
    def wrong(*arguments: Any) -> Tensor:
        return spoil(block_attention(*arguments))

    probe = probe_attention([CASE], CPU, torch.float32, varlen=Varlen(wrong, grouped=True))
    assert probe.packed is None
    assert told in str(probe.not_packed)
    assert str(probe.not_packed).endswith(" (language, 13 keys, masked)")
    assert probe.line().endswith(f"; keys are masked, not packed: {probe.not_packed}")
    assert not probe.switched_off
    assert [each.kernel for each in probe.cases] == ["flash"]
