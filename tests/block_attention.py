"""What attention for sequences of different lengths computes, written out: the contract of PyTorch's `varlen_attn`.

All sequences lie one behind the other; a query sees the keys of its own sequence. Written with the matrix of all
scores, so that it can be traced and has a gradient. The real kernel needs a GPU: `tests/gpu` compares the two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pi05.model.packed_keys import Varlen


def block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    most_queries: int,
    most_keys: int,
) -> Tensor:
    """Return what the queries see; query head n reads key/value head n // (N / K)."""
    assert query_starts.dtype == key_starts.dtype == torch.int32
    assert query_starts.shape == key_starts.shape
    assert query.dim() == key.dim() == 3
    assert key.shape == value.shape
    assert all(each.stride(-1) == 1 for each in (query, key, value))
    groups, dtype = query.shape[1] // key.shape[1], query.dtype
    query, key, value = query.float(), key.float(), value.float()
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    owner, of = (
        torch.bucketize(torch.arange(len(rows), device=rows.device), starts.long(), right=True)
        for rows, starts in ((query, query_starts), (key, key_starts))
    )
    scores = torch.einsum("qnh,knh->nqk", query, key) / math.sqrt(query.shape[-1])
    scores = scores.masked_fill((owner[:, None] != of[None, :]), -math.inf)
    return torch.einsum("nqk,knh->qnh", scores.softmax(dim=-1), value).to(dtype)


def equal_heads(*arguments: Tensor | int) -> Tensor:
    """As PyTorch 2.10 and 2.11 have it: there are as many query heads as key/value heads."""
    query, key = arguments[0], arguments[1]
    assert isinstance(query, Tensor)
    assert isinstance(key, Tensor)
    assert query.shape[1] == key.shape[1]
    return block_attention(*arguments)  # type: ignore[arg-type]


WITH_GROUPS = Varlen(block_attention, grouped=True)
WITHOUT = Varlen(equal_heads, grouped=False)
"""As PyTorch has it from 2.12 on, and before."""
EITHER = {"grouped heads": WITH_GROUPS, "equal heads": WITHOUT}
