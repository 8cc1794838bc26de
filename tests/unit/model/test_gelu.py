"""GELU without gradients on a CPU is PyTorch's function, by other operations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pi05.model import gelu as module
from pi05.model.gelu import gated, gelu

FINITE = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40)


def exact(x: Tensor) -> Tensor:
    return F.gelu(x.double(), approximate="tanh")


@given(values=st.one_of(FINITE, st.lists(st.floats(-12, 12, width=32), min_size=1, max_size=40)))
def test_it_is_the_tanh_form_within_float32s_roundings(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float32)
    with torch.no_grad():
        found = gelu(x, only_infers=True)
    error = (found.double() - exact(x)).abs()
    ours, pytorchs = error, (F.gelu(x, approximate="tanh").double() - exact(x)).abs()
    assert bool((ours <= 2 * pytorchs + 3e-7 * x.double().abs()).all())


def test_a_compiler_gets_the_same_function() -> None:
    x = torch.cat([torch.linspace(-15, 15, 4001), torch.tensor([-1e30, -1e4, 0.0, 1e4, 1e30])])
    error = (module._logistic(x).double() - exact(x)).abs()
    assert bool((error <= 4e-7 * x.double().abs().clamp(min=1e-3)).all())


@pytest.mark.parametrize("shape", [(3,), (2, 5, 7), (0, 4)])
def test_a_gate_is_gelu_times_its_branch_and_leaves_both_alone(shape: tuple[int, ...]) -> None:
    gate, branch = 3 * torch.randn(shape), torch.randn(shape)
    before = gate.clone(), branch.clone()
    with torch.no_grad():
        found = gated(gate, branch, only_infers=True)
    torch.testing.assert_close(found, gelu(gate, only_infers=True) * branch, rtol=1e-6, atol=1e-7)
    assert torch.equal(gate, before[0])
    assert torch.equal(branch, before[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_has_pytorchs_own_and_its_gradient(dtype: torch.dtype) -> None:
    x = (4 * torch.randn(50)).to(dtype).requires_grad_()
    branch = torch.randn(50).to(dtype)
    assert torch.equal(gelu(x, only_infers=True), F.gelu(x, approximate="tanh"))
    assert torch.equal(gated(x, branch, only_infers=True), F.gelu(x, approximate="tanh") * branch)
    (gradient,) = torch.autograd.grad(gelu(x).sum(), x)
    assert bool(gradient.isfinite().all())


def test_below_float32_pytorchs_is_kept_which_the_golden_numbers_come_from() -> None:
    x = (4 * torch.randn(50)).bfloat16()
    with torch.no_grad():
        assert torch.equal(gelu(x, only_infers=True), F.gelu(x, approximate="tanh"))


def test_a_network_that_trains_has_the_same_bits_without_gradients() -> None:
    x = 4 * torch.randn(50)
    with torch.no_grad():
        assert torch.equal(gelu(x), F.gelu(x, approximate="tanh"))
        assert torch.equal(gated(x, x), F.gelu(x, approximate="tanh") * x)


def test_what_is_no_number_stays_none() -> None:
    with torch.no_grad():
        assert math.isnan(gelu(torch.tensor([math.nan]), only_infers=True)[0])
        assert gelu(torch.tensor([math.inf]), only_infers=True)[0] == math.inf
