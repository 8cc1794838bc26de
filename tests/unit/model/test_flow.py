from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pi05.model import flow


def test_times_follow_the_beta_distribution():
    """Quantiles of 0.999·Beta(1.5, 1) + 0.001; the distribution function of Beta(1.5, 1) is x^1.5."""
    times = flow.sample_time(200_000, torch.Generator().manual_seed(0))
    assert times.dtype == torch.float32
    assert 0.001 <= float(times.min()) < 0.002
    assert 0.999 < float(times.max()) <= 1.0
    for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        expected = 0.999 * share ** (1 / 1.5) + 0.001
        assert float(times.quantile(share)) == pytest.approx(expected, abs=3e-3)


def test_times_depend_on_the_generator_only():
    first = flow.sample_time(4, torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    assert torch.equal(first, flow.sample_time(4, torch.Generator().manual_seed(5)))


def test_interpolation_ends():
    """t = 1 is noise, t = 0 is data; u_t leads from data to noise."""
    actions, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    x_t, u_t = flow.interpolate(actions, noise, torch.tensor([1.0, 0.0]))
    assert torch.equal(x_t[0], noise[0])
    assert torch.equal(x_t[1], actions[1])
    assert torch.equal(u_t, noise - actions)


@given(st.floats(0.001, 1.0))
def test_a_full_step_from_any_time_arrives(time):
    actions, noise = torch.full((1, 2, 3), 0.7), torch.full((1, 2, 3), -1.3)
    x_t, u_t = flow.interpolate(actions, noise, torch.tensor([time]))
    assert torch.allclose(x_t - time * u_t, actions, atol=1e-6)
    assert torch.allclose(x_t + (1 - time) * u_t, noise, atol=1e-6)


def test_time_embedding():
    """Sines, then cosines; the first period is 0.004, the last 4, the middle one their geometric mean."""
    width = 6
    embedded = flow.embed_time(torch.tensor([0.0, 0.3]), width)
    assert embedded.dtype == torch.float32
    assert torch.equal(embedded[0], torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]))
    angles = [2 * math.pi * float(torch.tensor(0.3)) / period for period in (0.004, math.sqrt(0.004 * 4), 4.0)]
    expected = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    assert embedded[1].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def losses() -> torch.Tensor:
    return torch.arange(1, 2 * 3 * 4 + 1, dtype=torch.float32).view(2, 3, 4)


MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_masked_loss_counts_real_entries_only(losses):
    total, count = flow.reduce_loss(losses, MASK, 2, "masked")
    assert float(count) == 3 * 2
    assert float(total) == (1 + 2) + (5 + 6) + (13 + 14)


def test_masked_loss_without_a_mask_counts_all_steps(losses):
    total, count = flow.reduce_loss(losses, None, 2, "masked")
    assert float(count) == 6 * 2
    assert float(total) == float(losses[..., :2].sum())


def test_lerobot_loss_counts_padded_steps(losses):
    total, count = flow.reduce_loss(losses, MASK, 2, "lerobot")
    assert float(count) == 6 * 2
    assert float(total) == float(losses[..., :2].sum())


def test_openpi_loss_counts_padded_dimensions(losses):
    total, count = flow.reduce_loss(losses, MASK, 2, "openpi")
    assert float(count) == losses.numel()
    assert float(total) == float(losses.sum())


@pytest.mark.parametrize("kind", ["masked", "lerobot", "openpi"])
def test_sums_of_shards_give_the_loss_of_the_whole(losses, kind):
    """What accumulation and several GPUs rely on: (sum, count) add up."""
    whole = flow.reduce_loss(losses, MASK, 2, kind)
    parts = [flow.reduce_loss(losses[i : i + 1], MASK[i : i + 1], 2, kind) for i in range(2)]
    assert float(whole[0]) == pytest.approx(sum(float(total) for total, _ in parts))
    assert float(whole[1]) == sum(float(count) for _, count in parts)


def test_a_value_that_does_not_count_cannot_poison_the_sum(losses):
    losses[0, 2] = 1e30
    total, _ = flow.reduce_loss(losses, MASK, 2, "masked")
    assert float(total) == 41


def test_committed_steps_stand_at_data():
    """Delays of 0, 2 and 3 of three steps: these are the actions themselves, at time 0; the others as without."""
    actions, noise, time = torch.randn(3, 3, 2), torch.randn(3, 3, 2), torch.tensor([0.2, 0.5, 0.9])
    committed = flow.committed_steps(torch.tensor([0, 2, 3]), 3)
    assert committed.tolist() == [[False] * 3, [True, True, False], [True] * 3]
    x_t, u_t = flow.interpolate(actions, noise, flow.time_per_step(time, committed))
    plain, same = flow.interpolate(actions, noise, time)
    assert torch.equal(x_t, torch.where(committed[..., None], actions, plain))
    assert torch.equal(u_t, same)


def test_delays_are_drawn_alike_below_the_bound():
    delays = flow.sample_delays(40_000, 4, torch.Generator().manual_seed(0))
    assert (delays.bincount() / len(delays)).tolist() == pytest.approx([0.25] * 4, abs=0.01)


@pytest.mark.parametrize("kind", ["masked", "lerobot", "openpi"])
def test_committed_steps_never_count(losses, kind):
    """The second sample has one real step; both delays leave something."""
    delay = torch.tensor([1, 0])
    total, count = flow.reduce_loss(losses, MASK, 2, kind, delay)
    whole, entries = flow.reduce_loss(losses, MASK, 2, kind)
    width = losses.shape[2] if kind == "openpi" else 2
    assert float(count) == float(entries) - width
    assert float(total) == float(whole) - float(losses[0, 0, :width].sum())
