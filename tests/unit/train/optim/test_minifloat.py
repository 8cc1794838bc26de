"""Moments in few bits: codes and values, error bounds, no bias, no zero below a second moment, bytes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pi05.train.optim.minifloat import FORMATS, Minifloat, Packed
from pi05.train.optim.stochastic_rounding import random_bits, rounding_key

every_format = pytest.mark.parametrize(
    "form", [form for pair in FORMATS.values() for form in pair], ids=["8bit-1", "8bit-2", "4bit-1", "4bit-2"]
)


def noise(count: int, update: int = 0) -> Tensor:
    return random_bits(torch.arange(count, dtype=torch.int32), rounding_key(0, update, "x"))


def draw(form: Minifloat, count: int, seed: int = 0) -> Tensor:
    """Values whose sizes differ by orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator) * torch.exp(2 * torch.randn(count, generator=generator)) * 1e-3
    return values if form.signed else values.square()


@every_format
def test_values_of_the_format_are_kept(form: Minifloat) -> None:
    """Every code, decoded and encoded again, with the largest value in each block: no randomness is left."""
    positive = form.table(torch.device("cpu"))[: form._magnitudes]
    values = torch.cat([positive, -positive]) if form.signed else positive[1:]
    rows = values.view(-1, 1).expand(-1, form.block).clone()
    rows[:, -1] = form.largest
    flat = rows.reshape(-1) * 0.5
    assert torch.equal(form.decode(form.encode(flat, noise(len(flat))), len(flat)), flat)
    assert len(positive.unique()) == 2 ** (form.bits - form.signed)


@every_format
def test_the_largest_of_a_block_is_kept_whatever_the_noise(form: Minifloat) -> None:
    largest = torch.rand(5_000, generator=torch.Generator().manual_seed(0)) + 0.5
    values = torch.full((5_000, form.block), 1e-3)
    values[:, 0] = largest
    flat = values.reshape(-1)
    found = form.decode(form.encode(flat, torch.full((len(flat),), 0xFFFF, dtype=torch.int32)), len(flat))
    assert torch.allclose(found.view_as(values)[:, 0], largest, rtol=1e-6)


def neighbours(form: Minifloat, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two representable values around each of `values`."""
    table = form.table(torch.device("cpu"))[: form._magnitudes].double()
    blocks = values.double().view(-1, form.block)
    unit = blocks.abs().amax(dim=1, keepdim=True) / form.largest
    above = torch.bucketize(blocks.abs() / unit, table).clamp(1, len(table) - 1)
    sign = blocks.sign()
    return tuple((sign * unit * table[code]).view(-1) for code in (above - 1, above))


@every_format
def test_the_result_is_a_neighbour(form: Minifloat) -> None:
    values = draw(form, 4_096)
    found = form.decode(form.encode(values, noise(4_096)), 4_096).double()
    either = [torch.isclose(found, side, rtol=1e-5, atol=0) for side in neighbours(form, values)]
    assert (either[0] | either[1]).all()


@every_format
def test_the_mean_over_updates_is_the_value(form: Minifloat) -> None:
    """For each value that has a fair chance of both neighbours, and for the sum of all that may become zero."""
    updates, count = 600, 1_024
    values = draw(form, count)
    found = torch.stack([form.decode(form.encode(values, noise(count, update)), count) for update in range(updates)])
    near, far = neighbours(form, values)
    chance = (values.double() - near) / (far - near)
    deviation = (far - near).abs() * (chance * (1 - chance) / updates).clamp(min=0).sqrt()
    off = found.double().mean(dim=0) - values.double()
    fair = (chance > 0.1) & (chance < 0.9) & (form.signed | (near > 0))
    assert fair.sum() > 100
    assert (off.abs() < 5 * deviation)[fair].all()
    counted = form.signed | (near > 0)
    assert off[counted].sum().abs() < 5 * deviation[counted].square().sum().sqrt()
    assert torch.allclose(found[:, ~counted].mean(dim=0).double(), far[~counted]), "second moments are not lost"


@pytest.mark.parametrize("form", [pair[1] for pair in FORMATS.values()], ids=list(FORMATS))
def test_a_second_moment_is_never_rounded_to_zero(form: Minifloat) -> None:
    values = torch.full((form.block,), 1e-30)
    values[0] = 1.0
    for update in range(20):
        assert (form.decode(form.encode(values, noise(form.block, update)), form.block) > 0).all()


@every_format
def test_zeros_stay_zeros(form: Minifloat) -> None:
    assert not form.decode(form.zeros(1_000, "cpu"), 1_000).any()
    assert not form.decode(form.encode(torch.zeros(1_000), noise(1_000)), 1_000).any()


@every_format
@given(count=st.integers(1, 1_500))
def test_any_number_of_values(form: Minifloat, count: int) -> None:
    values = draw(form, count)
    packed = form.encode(values, noise(count))
    assert (len(packed.codes), len(packed.scales)) == form.packed_sizes(count)
    assert form.decode(packed, count).shape == (count,)
    whole = form.encode(torch.cat([values, torch.zeros(-count % form.block)]), noise(count + -count % form.block))
    assert all(torch.equal(a, b) for a, b in zip(packed, whole, strict=True))
    assert isinstance(packed, Packed)


def test_bytes_per_value() -> None:
    def bytes_of(kind: str) -> float:
        count = 2**20
        return sum(part.nbytes for form in FORMATS[kind] for part in form.zeros(count, "cpu")) / count

    assert bytes_of("8bit") == 2 + 2 * 4 / 256
    assert bytes_of("4bit") == 1 + 2 * 4 / 32
