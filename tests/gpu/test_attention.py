"""On a GPU: the probe finds a right kernel for every tower of full size, and says which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from block_attention import WITH_GROUPS
from small_network import CONFIG, make_batch, make_model

from pi05.model.config import pi05
from pi05.model.layers import attend
from pi05.model.packed_keys import Packing, Varlen, pack_keys
from pi05.train.activations import apply_from_outside
from pi05.train.device.attention_cases import StepLengths, cases_of
from pi05.train.device.attention_probe import SWITCHES, TOLERANCE, probe_attention
from pi05.train.device.kernels import PACKED_NAME, expected_kernel
from pi05.train.device.varlen import flash_varlen, why_no_varlen
from pi05.train.plan.gpus import GPUS

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def _kernels_stay_on() -> Iterator[None]:
    yield
    for switch in SWITCHES.values():
        switch(True)


@pytest.mark.parametrize("prompts", [(50, 64), (50, 72), (64, 64)], ids=["576 keys", "584 keys", "no mask"])
def test_every_tower_has_a_right_and_fast_kernel(prompts: tuple[int, int]) -> None:
    """576 keys are 64 modulo 128, for which cuDNN's gradients have been NaN."""
    bucket = 1 if prompts[0] == prompts[1] else 8
    lengths = StepLengths(batch=8, cameras=2, shortest=prompts[0], longest=prompts[1], bucket=bucket)
    probe = probe_attention(cases_of(pi05(), lengths), DEVICE, torch.bfloat16)
    print(probe.line(), *probe.switched_off, sep="\n")
    assert {each.case.tower for each in probe.cases} == {"vision", "language", "expert"}
    assert all(each.kernel != "math" for each in probe.cases)


@pytest.mark.skipif(
    not (2, 11) <= tuple(map(int, torch.__version__.split(".")[:2])) <= (2, 13),
    reason=f"the rules are those of PyTorch 2.11 to 2.13, this is {torch.__version__}",
)
@pytest.mark.skipif("TORCH_CUDNN_SDPA_DEPRIORITIZED" in os.environ, reason="the environment changes PyTorch's choice")
def test_the_planner_knows_what_pytorch_chooses() -> None:
    capability = torch.cuda.get_device_capability()
    if capability not in {gpu.capability for gpu in GPUS.values()}:
        pytest.skip(f"no rule was read for compute capability {capability}")
    lengths = StepLengths(batch=8, cameras=2, shortest=50, longest=64, bucket=8)
    probe = probe_attention(cases_of(pi05(), lengths), DEVICE, torch.bfloat16)
    if probe.switched_off:
        pytest.skip(f"not PyTorch's own choice: {probe.switched_off}")
    for each in probe.cases:
        wanted = expected_kernel(
            capability, head_dim=each.case.head_dim, masked=each.case.masked, cudnn=torch.backends.cudnn.version()
        )
        assert each.kernel == wanted, each.case.told


@pytest.mark.parametrize("prompts", [(50, 64), (50, 72)], ids=["576 keys", "584 keys"])
def test_packed_keys_are_right_where_there_is_a_kernel(prompts: tuple[int, int]) -> None:
    reason = why_no_varlen(DEVICE, torch.bfloat16, pi05().head_dim)
    if reason is not None:
        pytest.skip(reason)
    lengths = StepLengths(batch=8, cameras=2, shortest=prompts[0], longest=prompts[1], bucket=8)
    probe = probe_attention(cases_of(pi05(), lengths), DEVICE, torch.bfloat16, varlen=flash_varlen())
    print(probe.line())
    assert probe.not_packed is None
    assert probe.packed is not None
    assert PACKED_NAME in probe.line()


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_packed_keys_are_those_written_out(kv_heads: int, grouped: bool) -> None:
    """PyTorch's kernel keeps the contract that the tests on a CPU go by, heads folded and, where it can, grouped."""
    reason = why_no_varlen(DEVICE, torch.bfloat16, 64)
    if reason is not None:
        pytest.skip(reason)
    ours = flash_varlen()
    if grouped and not ours.grouped:
        pytest.skip(f"PyTorch {torch.__version__} knows of no query heads that share a key/value head")
    valid = torch.arange(200, device=DEVICE) < torch.tensor([[200], [77], [130]], device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(0)
    query = torch.randn(3, 90, 4, 64, generator=generator, device=DEVICE).bfloat16()
    key = torch.randn(3, 200, kv_heads, 64, generator=generator, device=DEVICE).bfloat16().transpose(1, 2)
    found = []
    for varlen in (Varlen(ours.kernel, grouped), WITH_GROUPS):
        inputs = [each.detach().clone().requires_grad_() for each in (query, key, key.flip(2))]
        seen = attend(inputs[0], inputs[1], inputs[2], pack_keys(valid, 90, Packing(407, varlen)))
        found.append([seen.detach(), *torch.autograd.grad(seen.float().square().sum(), inputs)])
    for one, other in zip(*found, strict=True):
        assert float((one - other).float().norm() / other.float().norm()) < TOLERANCE[torch.bfloat16]


def test_a_step_with_packed_keys_is_the_step_and_waits_for_nothing() -> None:
    reason = why_no_varlen(DEVICE, torch.bfloat16, CONFIG.head_dim)
    if reason is not None:
        pytest.skip(reason)
    found = []
    for varlen in (None, flash_varlen()):
        model = make_model().to(DEVICE)
        model.compute_dtype = torch.bfloat16
        model.varlen = varlen
        apply_from_outside(model, compile_layers=False, recompute_activations="selective")
        mask = torch.arange(8) < torch.tensor([[8], [3], [5], [7]])
        batch = replace(make_batch(4), token_mask=mask, trimmed=False).trim()
        assert batch.counted_tokens == 23
        batch = batch.to(DEVICE)
        noise = torch.randn(4, CONFIG.horizon, CONFIG.action_dim, generator=torch.Generator().manual_seed(1))
        noise, time = noise.to(DEVICE), torch.full((4,), 0.5, device=DEVICE)
        model.loss(batch, noise, time).mean().backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            model.loss(batch, noise, time).mean().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found.append(torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 2 * TOLERANCE[torch.bfloat16]  # of either
