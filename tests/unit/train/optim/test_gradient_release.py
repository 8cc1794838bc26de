"""Gradients that are used and freed at once: what clipping by the norm so far does, and what memory it saves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pi05.errors import CheckpointError
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.gradient_release import RunningNorm
from pi05.train.optim.low_memory import LowMemoryOptimizer

SCHEDULE = Schedule(peak=1e-2, warmup_steps=0, decay_steps=100, end=1e-2)
LIMIT = 1.0
norms = st.floats(1e-3, 1e3)


def follow(previous: float, sizes: list[float]) -> tuple[list[float], float]:
    """Return the norms of the scaled gradients, one per parameter, and the norm of the step."""
    running = RunningNorm(LIMIT)
    running.previous = torch.tensor(previous)
    scaled = []
    for size in sizes:
        running.add(torch.tensor([size]))
        scaled.append(size * float(running.factor()))
    return scaled, float(running.finish())


@given(previous=norms, sizes=st.lists(norms, min_size=1, max_size=30))
def test_the_bounds(previous: float, sizes: list[float]) -> None:
    scaled, norm = follow(previous, sizes)
    total, exact = math.hypot(*scaled), math.hypot(*sizes)
    assert norm == pytest.approx(exact, rel=1e-5)
    assert max(scaled) <= LIMIT * 1.00001
    reference = max(LIMIT, previous)
    assert total <= LIMIT * 1.0001 * math.sqrt(1 + 2 * math.log(max(1.0, exact / reference)))
    if max(previous, exact) <= LIMIT:
        assert scaled == pytest.approx(sizes)
    if exact <= previous:
        assert total == pytest.approx(exact * min(1.0, LIMIT / previous), rel=1e-4)


def test_a_step_a_hundred_times_as_large_counts_three_limits() -> None:
    scaled, _ = follow(1.0, [100 / math.sqrt(800)] * 800)
    assert 2.5 < math.hypot(*scaled) < 3.21


class Chain(nn.Module):
    """Layers one after the other, so that their gradients come one after the other."""

    def __init__(self, depth: int = 6, width: int = 64, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        drawn = (torch.randn(width, width, generator=generator) / width**0.5 for _ in range(depth))
        self.layers = nn.ParameterList(nn.Parameter(values.to(dtype)) for values in drawn)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(x @ layer.float())
        return x


def build(release: bool, clip: float, dtype: torch.dtype = torch.float32) -> tuple[Chain, LowMemoryOptimizer]:
    chain = Chain(dtype=dtype)
    settings = AdamSettings(clip_norm=clip)
    optimizer = LowMemoryOptimizer(
        dict(chain.named_parameters()), settings, SCHEDULE, seed=0, state="8bit", release=release
    )
    return chain, optimizer


def backward(chain: Chain, number: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(number)
    chain(torch.randn(32, 64, generator=generator)).square().sum().mul(scale).backward()


def walk(chain: Chain, optimizer: LowMemoryOptimizer, steps: range, scale: float = 1.0) -> list[float]:
    found = []
    for number in steps:
        if optimizer.measures_first:
            optimizer.begin(number)
            backward(chain, number, scale)
            optimizer.apply(number)
        optimizer.begin(number)
        backward(chain, number, scale)
        found.append(float(optimizer.apply(number)[0]))
    return found


def same(left: Chain, right: Chain) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_below_the_limit_it_takes_the_same_steps_bit_for_bit(dtype: torch.dtype) -> None:
    (kept, one), (freed, other) = (build(release, 1e9, dtype) for release in (False, True))
    before = [value.detach().clone() for value in kept.parameters()]
    assert walk(kept, one, range(5)) == pytest.approx(walk(freed, other, range(5)), rel=1e-6)
    assert same(kept, freed)
    assert not any(torch.equal(a, b) for a, b in zip(before, kept.parameters(), strict=True))


def test_the_first_step_is_clipped_by_its_exact_norm() -> None:
    """And the pass before it, which only measures, moves nothing."""
    (kept, one), (freed, other) = (build(release, 0.1) for release in (False, True))
    before = [value.detach().clone() for value in freed.parameters()]
    other.begin(0)
    backward(freed, 0)
    other.apply(0)
    assert all(torch.equal(a, b) for a, b in zip(before, freed.parameters(), strict=True))
    assert not other.measures_first
    norms = walk(kept, one, range(1)), walk(freed, other, range(1))
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert norms[0][0] > 1
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(kept.parameters(), freed.parameters(), strict=True))


def test_resumed_it_clips_by_the_norm_before_the_break() -> None:
    (whole, one), (halved, other) = (build(True, 0.1) for _ in range(2))
    walk(whole, one, range(6))
    walk(halved, other, range(3))
    copy, continued = build(True, 0.1)
    copy.load_state_dict(halved.state_dict())
    continued.load_tensors({name: value.clone() for name, value in other.tensors().items()})
    assert not continued.measures_first
    walk(copy, continued, range(3, 6))
    assert same(whole, copy)


def test_the_state_of_a_run_that_releases_is_no_other_runs() -> None:
    chain, optimizer = build(True, 0.1)
    walk(chain, optimizer, range(1))
    _, other = build(False, 0.1)
    with pytest.raises(CheckpointError, match="belongs to other parameters") as refusal:
        other.load_tensors(optimizer.tensors())
    assert refusal.value.found == "previous_norm"


def live_gradient_bytes(release: bool) -> int:
    """Return the most bytes of gradients that existed at any time of a backward pass."""
    chain, optimizer = build(release, 1.0, torch.bfloat16)
    most = 0

    def count(_: Tensor) -> None:
        nonlocal most
        kept = sum(value.grad.nbytes for value in chain.parameters() if value.grad is not None)
        most = max(most, kept)

    # Hooks run in the order of registration: these see what is left of the gradients that came before.
    for parameter in chain.parameters():
        parameter.register_post_accumulate_grad_hook(count)
        parameter.register_hook(lambda gradient: (count(gradient), None)[1])
    walk(chain, optimizer, range(2))
    return most


def test_no_gradient_waits() -> None:
    everything = sum(value.nbytes for value in Chain(dtype=torch.bfloat16).parameters())
    assert live_gradient_bytes(release=False) == everything
    assert live_gradient_bytes(release=True) == 0


def peak_bytes(release: bool, depth: int) -> int:
    """Return how far memory rises above its level in one backward pass and update, by the allocator's own record."""
    chain = Chain(depth)
    optimizer = LowMemoryOptimizer(
        dict(chain.named_parameters()), AdamSettings(), SCHEDULE, seed=0, state="float32", release=release
    )
    walk(chain, optimizer, range(1))
    optimizer.begin(1)
    loss = chain(torch.ones(2, 64)).square().sum()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        loss.backward()
        optimizer.apply(1)
    assert record.profiler is not None
    alive = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's own
def test_peak_memory_of_the_step_falls_by_the_gradients() -> None:
    depth, one = 60, 64 * 64 * 4
    kept, freed = (peak_bytes(release, depth) for release in (False, True))
    assert kept > depth * one
    assert freed < 14 * one, "one gradient and the temporary tensors of its update"


def test_a_gradient_outside_of_a_step_is_an_error() -> None:
    chain, _ = build(True, 1.0)
    with pytest.raises(RuntimeError, match="outside of a training step"):
        backward(chain, 0)
