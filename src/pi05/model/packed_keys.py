"""Attention over the keys that count, gathered sample by sample, in the place of a mask over all of them.

A kernel for sequences of different lengths (flash attention's) needs no mask and skips what does not count, which on
most GPUs is the fast kernel that a mask rules out. Queries stay as they lie: all samples have the same number, padding
included, whose results nothing reads. How many keys count must be known on the host: a shape cannot wait for the
device. Knows nothing of GPUs; which kernel there is, and whether it is right, is `train/device/varlen.py`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from pi05.types import Batch

VarlenKernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""Takes queries [rows, N, H], keys and values [rows, K, H], where the sequences of queries and of keys start (int32,
one more than sequences), and the longest of each; returns what the queries see [rows, N, H]."""


class Varlen(NamedTuple):
    """Attention for sequences of different lengths."""

    kernel: VarlenKernel
    grouped: bool
    """Whether it knows of query heads that share a key/value head. Else they are laid out as more queries."""


class Packing(NamedTuple):
    """What is needed to pack a batch: the number of keys that count in it, and the attention that reads them."""

    counted: int
    varlen: Varlen


class PackedKeys(NamedTuple):
    """Which keys of a batch count, made once for all layers that read the same keys."""

    rows: Int64[Tensor, " R"]
    """Their rows among those of all samples."""
    query_starts: Int32[Tensor, " B+1"]
    """In positions of queries."""
    key_starts: Int32[Tensor, " B+1"]
    varlen: Varlen


def packing_of(batch: Batch, patches_per_image: int, varlen: Varlen) -> Packing | None:
    """Return how the keys of a batch's prefix are packed; None: all of them count, or nobody has counted them."""
    images, prompts = batch.image_rows, batch.counted_tokens
    if batch.image_mask is None and batch.token_mask is None:
        return None
    if (batch.image_mask is not None and images is None) or (batch.token_mask is not None and prompts is None):
        return None
    size, columns = batch.tokens.shape
    if batch.prefix is not None:
        counted = size * (batch.prefix.shape[4] - columns)
    else:
        counted = patches_per_image * (size * batch.images.shape[1] if images is None else len(images))
    return Packing(counted + (size * columns if prompts is None else prompts), varlen)


def pack_keys(valid: Bool[Tensor, "B L"], queries: int, packing: Packing) -> PackedKeys:
    """Return the rows of the keys that count, in order, for `queries` queries per sample; waits for no device.

    A count that is not the mask's is not noticed on the way: rows would be missing, or the last ones double.
    """
    batch = len(valid)
    flat = valid.flatten()
    # Each valid row goes to its rank among them, every other one to a place past the end.
    place = torch.where(flat, flat.long().cumsum(0) - 1, packing.counted).clamp(max=packing.counted)
    rows = torch.zeros(packing.counted + 1, dtype=torch.int64, device=valid.device)
    rows = rows.scatter(0, place, torch.arange(len(flat), device=valid.device))[: packing.counted]
    key_starts = torch.zeros(batch + 1, dtype=torch.int32, device=valid.device)
    torch.cumsum(valid.sum(dim=1), 0, dtype=torch.int32, out=key_starts[1:])
    query_starts = torch.arange(batch + 1, dtype=torch.int32, device=valid.device) * queries
    return PackedKeys(rows, query_starts, key_starts, packing.varlen)


def attend_packed(
    query: Float[Tensor, "B Q N H"], key: Float[Tensor, "B K L H"], value: Float[Tensor, "B K L H"], keys: PackedKeys
) -> Float[Tensor, "B Q N*H"]:
    """Let every query of a sample see every key of it that counts; query head n reads key/value head n // (N / K)."""
    batch, queries, heads, head_dim = query.shape
    kv_heads, length = key.shape[1:3]
    key, value = (each.transpose(1, 2).flatten(0, 1).index_select(0, keys.rows) for each in (key, value))
    shared = 1 if keys.varlen.grouped else heads // kv_heads
    # Position by position, as `layers.fold_heads` has it: with one key/value head that is a view.
    folded = query.reshape(batch * queries, heads // shared, shared, head_dim)
    folded = folded.transpose(1, 2).reshape(batch * queries * shared, heads // shared, head_dim)
    starts = keys.query_starts * shared if shared > 1 else keys.query_starts
    seen = keys.varlen.kernel(folded, key, value, starts, keys.key_starts, queries * shared, length)
    unfolded = seen.reshape(batch * queries, shared, heads // shared, head_dim).transpose(1, 2)
    return unfolded.reshape(batch, queries, heads * head_dim)
