"""Packed keys give what masked keys give, forward and backward, whoever has counted them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from block_attention import EITHER, WITH_GROUPS, WITHOUT, block_attention
from hypothesis import given
from hypothesis import strategies as st
from network_modes import Mode, in_mode
from torch import Tensor

from pi05.model.layers import attend, key_bias, keys_that_count
from pi05.model.packed_keys import PackedKeys, Packing, Varlen, pack_keys, packing_of

ROUNDING = 1e-5
"""Absolute, for losses up to 40 and gradients up to 5, as in `test_dead_work.py`: sums in another order."""

either = pytest.mark.parametrize("varlen", EITHER.values(), ids=EITHER)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1)))
def test_rows_are_those_that_count(mask: list[list[bool]]) -> None:
    valid = torch.tensor(mask)
    keys = pack_keys(valid, 3, Packing(int(valid.sum()), WITH_GROUPS))
    assert torch.equal(keys.rows, valid.flatten().nonzero().squeeze(1))
    assert keys.key_starts.tolist() == [0, *valid.sum(dim=1).cumsum(0).tolist()]
    assert keys.query_starts.tolist() == [3 * sample for sample in range(len(valid) + 1)]


@either
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_what_queries_see_and_every_gradient(kv_heads: int, varlen: Varlen) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 5, 6, 8, generator=generator)
    key, value = (torch.randn(3, 7, kv_heads, 8, generator=generator).transpose(1, 2) for _ in range(2))
    valid = torch.tensor([[True] * 4 + [False] * 3, [True] * 7, [False, True, False, True, True, False, True]])
    gradient = torch.randn(3, 5, 48, generator=generator)
    found = []
    for keys in (key_bias(valid, torch.float32), keys_that_count(valid, 5, torch.float32, Packing(15, varlen))):
        inputs = [each.clone().requires_grad_() for each in (query, key, value)]
        seen = attend(*inputs, keys)
        found.append([seen, *torch.autograd.grad(seen, inputs, gradient)])
    for masked, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, masked, rtol=1e-6, atol=1e-6)
    assert not found[1][2][~valid[:, None].expand(3, kv_heads, 7)].any(), "what does not count gets no gradient"


def test_what_the_kernel_is_given() -> None:
    """The longest queries and keys, or more; with one key/value head the queries are a view."""
    seen: list[tuple[tuple[int, ...], int, int]] = []
    query = torch.randn(2, 5, 4, 8)

    def look(queries: Tensor, *rest: Tensor | int) -> Tensor:
        assert queries.data_ptr() == query.data_ptr()
        seen.append((tuple(queries.shape), *rest[-2:]))  # type: ignore[arg-type]
        return block_attention(queries, *rest)  # type: ignore[arg-type]

    valid = torch.tensor([[True, True, False], [True, False, False]])
    key = torch.randn(2, 1, 3, 8)
    for grouped in (True, False):
        attend(query, key, key, pack_keys(valid, 5, Packing(3, Varlen(look, grouped))))
    assert seen == [((10, 4, 8), 5, 3), ((40, 1, 8), 20, 3)]


def test_all_keys_or_no_kernel_mean_no_packing() -> None:
    valid = torch.tensor([[True, False]])
    assert keys_that_count(None, 3, torch.float32, Packing(1, WITH_GROUPS)) is None
    assert isinstance(keys_that_count(valid, 3, torch.float32, None), Tensor)
    assert isinstance(keys_that_count(valid, 3, torch.float32, Packing(1, WITH_GROUPS)), PackedKeys)


def outcome(model, batch, noise, time, **options) -> dict[str, Tensor]:
    model.zero_grad()
    losses = model.loss(batch, noise, time, **options)
    losses.mean().backward()
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return {"losses": losses.detach(), **found}


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=ROUNDING, msg=name)


MODES = {
    "as it is": Mode(),
    "selective": Mode("selective"),
    "recomputed": Mode(1.0),
}


@either
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    ("without", "draws"),
    [((), 1), ((), 2), (("image_mask",), 1), (("token_mask",), 1)],
    ids=["masks", "two draws", "tokens", "cameras"],
)
def test_loss_and_gradients(model, batch, noise, time, varlen, mode, without, draws) -> None:
    """With masked cameras, padded prompts and both; every draw of the flow reads the same prefix."""
    batch = replace(batch, **dict.fromkeys(without)).trim()
    drawn = [each.repeat_interleave(draws, dim=0) + torch.arange(3 * draws).view(-1, *[1] * (each.dim() - 1)) / 50
             for each in (noise, time)]  # fmt: skip
    with in_mode(model, mode):
        wanted = outcome(model, batch, *drawn, flow_samples=draws)
        calls = count_calls(model, varlen)
        assert_alike(outcome(model, batch, *drawn, flow_samples=draws), wanted)
    layers = len(model.language.layers) - 1 + len(model.expert.layers)
    assert len(calls) == layers * (2 if mode.recomputed == 1.0 or mode.recomputed == "selective" else 1)


def count_calls(model, varlen: Varlen) -> list[int]:
    """Let the network read packed keys; return the numbers of keys of each call that comes."""
    calls: list[int] = []

    def counted(query: Tensor, key: Tensor, *rest: Tensor | int) -> Tensor:
        calls.append(len(key))
        return varlen.kernel(query, key, *rest)  # type: ignore[arg-type]

    model.varlen = Varlen(counted, varlen.grouped)
    return calls


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_traced_layers_compile_nothing_more_for_other_counts(model, batch, noise, time) -> None:
    wanted = outcome(model, batch.trim(), noise, time)
    model.varlen = WITHOUT
    with in_mode(model, Mode("selective", "aot_eager")):
        assert_alike(outcome(model, batch.trim(), noise, time), wanted)
        graphs = []
        for longest in (9, 5, 8, 3, 11):  # the count alone changes, then the length of the prompts, too: twice traced
            other = replace(batch, token_mask=batch.token_mask & (torch.arange(24) < longest)).trim()
            outcome(model, other, noise, time)
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        assert graphs[1:] == graphs[1:2] * 4


@either
def test_a_prefix_that_is_known_already(model, batch, noise, time, varlen) -> None:
    batch = replace(batch, image_mask=None).trim()
    with torch.no_grad():
        cache, _ = model.read_prefix(batch)
        prefix = torch.stack([torch.stack(pair, dim=1) for pair in cache], dim=1)
    known = replace(batch, prefix=prefix, images=batch.images[:, :0])
    wanted = outcome(model, known, noise, time)
    calls = count_calls(model, varlen)
    assert_alike(outcome(model, known, noise, time), wanted)
    images = 3 * model.config.patches_per_image
    assert calls == [3 * images + 21 + 3 * model.config.horizon] * len(model.expert.layers)


def test_what_nobody_has_counted_is_masked(model, batch, noise, time) -> None:
    """Sampling is masked, too: only `loss` packs."""
    batch = batch.trim()
    calls = count_calls(model, WITH_GROUPS)
    for unknown in (replace(batch, image_rows=None), replace(batch, counted_tokens=None)):
        assert packing_of(unknown, 9, WITH_GROUPS) is None
        model.loss(unknown, noise, time)
    model.sample_actions(batch, noise, num_steps=1)
    assert calls == []
    model.loss(batch, noise, time)
    assert calls
