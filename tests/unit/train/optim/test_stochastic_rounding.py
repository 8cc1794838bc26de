"""Rounding by chance: to a neighbour, right on average, with bits that follow from seed, update, name and index."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pi05.train.optim.stochastic_rounding import (
    KeyTable,
    random_bits,
    round_to_bfloat16,
    rounding_key,
    rounding_keys,
)

SIGMAS = 5.0
"""Standard deviations that a mean over independent draws may be off."""


def index(count: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + count, dtype=torch.int32)


@given(st.floats(width=32, min_value=-(2.0**126), max_value=2.0**126), st.integers(0, 99))
def test_the_result_is_a_neighbour(value: float, update: int) -> None:
    values = torch.full((64,), value)
    rounded = round_to_bfloat16(values, random_bits(index(64), rounding_key(0, update, "w"))).float()
    towards_zero = (values.view(torch.int32) & -0x10000).view(torch.float32)
    away = ((values.view(torch.int32) & -0x10000) + 0x10000).view(torch.float32)
    assert ((rounded == towards_zero) | ((rounded == away) & (values != towards_zero))).all()


@pytest.mark.parametrize("value", [1.001, -0.02003, 3.3e-5, 1.0 + 2**-8, 1.0 + 2**-16])
def test_the_mean_is_the_value(value: float) -> None:
    count = 2**20
    bits = random_bits(index(count), rounding_key(3, 1, "w"))
    rounded = round_to_bfloat16(torch.full((count,), value), bits).double()
    exact = float(torch.tensor(value))
    spacing = 2.0 ** (math.floor(math.log2(abs(exact))) - 7)
    assert abs(float(rounded.mean()) - exact) < SIGMAS * spacing / 2 / math.sqrt(count)


def test_over_the_updates_too_the_mean_is_the_value() -> None:
    """The same element, 4,000 updates: what a weight sees that is rounded in each step."""
    value, updates = 1.0 + 0.3 * 2**-7, 4_000
    ups = 0
    for update in range(updates):
        bits = random_bits(index(1, start=12_345), rounding_key(0, update, "layer.weight"))
        ups += int(round_to_bfloat16(torch.tensor([value]), bits).float().item() > 1.0)
    assert abs(ups / updates - 0.3) < SIGMAS * math.sqrt(0.3 * 0.7 / updates)


def test_bfloat16_values_and_what_is_not_finite_stay() -> None:
    values = torch.tensor([1.0, -0.5, 0.0, -0.0, 2**-130, float("inf"), float("-inf")]).repeat(1_000)
    rounded = round_to_bfloat16(values, random_bits(index(len(values)), (7, 8)))
    assert torch.equal(rounded.float(), values)
    assert round_to_bfloat16(torch.full((1_000,), float("nan")), random_bits(index(1_000), (7, 8))).isnan().all()
    widest = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)  # NaN whose bits would carry
    assert round_to_bfloat16(widest, torch.full((2,), 0xFFFF, dtype=torch.int32)).isnan().all()


def test_bits_follow_from_the_index_and_the_key_alone() -> None:
    key = rounding_key(1, 2, "a")
    for other in ((key[0], key[1] ^ 1), (key[0] ^ 1, key[1])):
        same = random_bits(index(1_000), key) == random_bits(index(1_000), other)
        assert same.float().mean() < 0.01, "both halves of the key count"
    before = torch.get_rng_state()
    whole = random_bits(index(1_000), key)
    assert torch.equal(whole[300:400], random_bits(index(100, start=300), key))
    assert torch.equal(torch.get_rng_state(), before)
    for other in (rounding_key(2, 2, "a"), rounding_key(1, 3, "a"), rounding_key(1, 2, "b")):
        assert (random_bits(index(1_000), other) == whole).float().mean() < 0.01


def test_every_bit_is_a_fair_coin_and_independent_of_its_neighbours() -> None:
    count = 2**18
    one, other = (random_bits(index(count), rounding_key(0, update, "w")) for update in (0, 1))
    for bit in range(32):
        coin, next_update = ((bits >> bit & 1).double() * 2 - 1 for bits in (one, other))
        limit = SIGMAS / math.sqrt(count)
        assert abs(float(coin.mean())) < limit
        assert abs(float((coin[1:] * coin[:-1]).mean())) < limit, "next element"
        assert abs(float((coin * next_update).mean())) < limit, "next update"
        low = (one & 1).double() * 2 - 1
        assert bit == 0 or abs(float((coin * low).mean())) < limit, "other bit"


@given(
    seed=st.integers(0, 2**140),
    update=st.integers(0, 2**33),
    names=st.lists(st.text(max_size=20), min_size=1, max_size=5),
)
def test_keys_of_many_names_are_those_of_each(seed: int, update: int, names: list[str]) -> None:
    assert rounding_keys(seed, update, names).tolist() == [list(rounding_key(seed, update, name)) for name in names]


def test_a_table_holds_the_keys_of_a_step() -> None:
    table = KeyTable(["a", "b"], seed=3)
    for update in (0, 0, 1, 0):
        for name in ("b", "a"):
            wanted = [*rounding_key(3, update, f"{name}/weight and first"), *rounding_key(3, update, f"{name}/second")]
            assert table.of(name, update, torch.device("cpu")).tolist() == wanted
