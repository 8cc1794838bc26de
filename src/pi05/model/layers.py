"""The two operations that all three towers share: a linear map in the activation's precision, and attention.

Parameters stay in their own precision (float32 when training); each operation casts them to the precision of its input,
as openpi's JAX model does (`models/gemma.py`, `models/siglip.py`). Knows nothing of masks other than "this key counts".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pi05.model.packed_keys import PackedKeys, Packing, attend_packed, pack_keys

ROW = 16
"""Numbers between the rows of a mask, or a multiple of that: what attention's CUDA kernels read in one piece."""
NORM_EPSILON = 1e-6
"""Added to the variance, or the mean square, under the root of every norm: SigLIP's and Gemma's."""


class Linear(nn.Linear):
    """A linear map that computes in the precision of its input, whatever the precision of its weight."""

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return `x @ weight.T + bias` in the precision of `x`.

        Below float32 the product is rounded before the bias is added, as in flax: fused, the velocities of the golden
        bfloat16 run differ by up to 0.023 instead of 0.018.
        """
        if self.bias is None:
            return self.product(x)
        bias = self.bias.to(x.dtype)
        if x.dtype == torch.float32:
            return self.product(x, bias)
        return self.product(x) + bias

    def product(
        self, x: Float[Tensor, "*batch inputs"], bias: Float[Tensor, " outputs"] | None = None
    ) -> Float[Tensor, "*batch outputs"]:
        """Return the product alone, or with the bias added before it is rounded; a quantised weight has its own."""
        return F.linear(x, self.weight.to(x.dtype), bias)


def fold_heads(query: Float[Tensor, "B Q N H"], kv_heads: int) -> Float[Tensor, "B K Q*N/K H"]:
    """Lay the query heads of one key/value head out as a longer sequence of queries, position by position."""
    batch, queries, heads, head_dim = query.shape
    grouped = query.view(batch, queries, kv_heads, heads // kv_heads, head_dim)
    return grouped.transpose(1, 2).flatten(2, 3)


def key_bias(valid: Bool[Tensor, "B L"] | None, dtype: torch.dtype) -> Float[Tensor, "B 1 1 L"] | None:
    """Return what attention adds to the scores of each key: 0 where it counts, else minus infinity; None: all count.

    One row per sample, for all heads and queries, made once for all layers that read the same keys: attention would
    make it of a boolean mask in every layer. Rows lie a multiple of 16 numbers apart, as CUDA's kernels want them:
    other rows are copied first, and compiled code has failed on them (pytorch#165506). They are always longer than
    what is read of them: a row that ended with it would be another layout, and compiled anew.
    """
    if valid is None:
        return None
    batch, length = valid.shape
    rows = torch.full((batch, (length // ROW + 1) * ROW), -math.inf, dtype=dtype, device=valid.device)
    rows[:, :length].masked_fill_(valid, 0.0)
    return rows[:, None, None, :length]


Keys = Tensor | PackedKeys | None
"""Which keys count: a bias (`key_bias`), or their rows; None: all."""


def keys_that_count(
    valid: Bool[Tensor, "B L"] | None, queries: int, dtype: torch.dtype, packing: Packing | None
) -> Keys:
    """Return what `attend` needs to know of the keys: their rows where a batch can be packed, else a bias."""
    if valid is None or packing is None:
        return key_bias(valid, dtype)
    return pack_keys(valid, queries, packing)


def attend(
    query: Float[Tensor, "B Q N H"],
    key: Float[Tensor, "B K L H"],
    value: Float[Tensor, "B K L H"],
    keys: Keys,
) -> Float[Tensor, "B Q N*H"]:
    """Let every query see every key that counts (`keys_that_count`); query head n reads key/value head n // (N / K).

    In π₀.₅ who may be seen never depends on who looks: the prefix is bidirectional, and the actions see the whole
    prefix and each other. So the mask has one row per sample. The query heads of one key/value head (grouped-query
    attention) are laid out as a longer sequence of queries, so that no key is repeated and no score matrix or Q x L
    mask is ever built.
    They lie position by position, not head by head: with one key/value head, and with as many as query heads, that is a
    view of the queries, and the output needs no copy either.
    """
    if isinstance(keys, PackedKeys):
        return attend_packed(query, key, value, keys)
    batch, queries, heads, head_dim = query.shape
    kv_heads = key.shape[1]
    folded = fold_heads(query, kv_heads)
    seen = F.scaled_dot_product_attention(folded, key, value, attn_mask=keys)
    unfolded = seen.unflatten(2, (queries, heads // kv_heads))
    return unfolded.transpose(1, 2).reshape(batch, queries, heads * head_dim)
