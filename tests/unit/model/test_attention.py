"""What reaches the attention kernel: no causal mask, no mask at all where all is valid, else one row per sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_network import CONFIG, make_batch, make_model
from torch import Tensor

from pi05.model.layers import attend
from pi05.types import Batch

PATCHES = CONFIG.patches_per_image
CALLS = CONFIG.vision_depth + (CONFIG.depth - 1) + CONFIG.depth
"""Attentions of a forward pass: vision blocks, language layers but the last, expert layers."""


def masks_of(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """Return the masks that the kernel gets in one forward pass."""
    masks: list[Tensor | None] = []
    kernel = F.scaled_dot_product_attention

    def spy(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        assert not options, "neither causal nor repeated heads nor dropout"
        assert query.shape[1] == key.shape[1], "keys are not repeated"
        masks.append(attn_mask)
        return kernel(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    make_model().loss(batch)
    return masks


def test_nothing_is_masked_where_all_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then CUDA's flash kernels apply, which take no mask."""
    assert masks_of(make_batch(3), monkeypatch) == [None] * CALLS


def test_a_mask_has_one_row_per_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    valid = torch.arange(8)[None] < torch.tensor([[3], [8], [5]])
    masks = masks_of(replace(make_batch(3), token_mask=valid), monkeypatch)
    assert masks[: CONFIG.vision_depth] == [None] * CONFIG.vision_depth, "images never mask each other"
    prefix = 2 * PATCHES + 8
    shapes = [tuple(mask.shape) for mask in masks[CONFIG.vision_depth :] if mask is not None]
    assert shapes == [(3, 1, 1, prefix)] * (CONFIG.depth - 1) + [(3, 1, 1, prefix + CONFIG.horizon)] * CONFIG.depth
    assert len({id(mask) for mask in masks[-CONFIG.depth :]}) == 1, "made once for all layers that read the same keys"


def test_prompts_of_one_length_need_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    valid = (torch.arange(8) < 8).expand(3, -1)
    batch = replace(make_batch(3), token_mask=valid, trimmed=False).trim()
    assert masks_of(batch, monkeypatch) == [None] * CALLS


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_each_query_head_reads_its_key_head(kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with repeated keys; with one key head or as many as query heads no query is copied."""
    query = torch.randn(2, 5, 4, 8)
    key, value = torch.randn(2, 2, kv_heads, 7, 8)
    wanted = F.scaled_dot_product_attention(
        query.transpose(1, 2), *(tensor.repeat_interleave(4 // kv_heads, 1) for tensor in (key, value))
    )
    kernel, views = F.scaled_dot_product_attention, []

    def spy(folded: Tensor, *others: Any, **options: Any) -> Tensor:
        views.append(folded.data_ptr() == query.data_ptr())
        return kernel(folded, *others, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    found = attend(query, key, value, None)
    torch.testing.assert_close(found, wanted.transpose(1, 2).flatten(2))
    assert views == [kv_heads != 2]
