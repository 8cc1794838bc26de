"""openpi's LoRA leaves, merged into the leaves that they belong to while these are read.

Behaviour follows openpi `models/lora.py` and `models/gemma.py` (their JAX half; the PyTorch half has no LoRA):

    q, kv     W[.., d, h] + A[.., d, r] · B[.., r, h]            every head has its own A and B
    attn_vec  W[n, h, d]  + A[n, h, r] · Σ_m B[m, r, d]          its two einsums both sum over the heads
    FFN       W[.., d, f] + A[.., d, r] · B[.., r, f]            without the scaling

The scaling alpha / rank of the first two is 1 in every variant that openpi defines. The checkpoint does not hold alpha,
so another value cannot be seen; the receipt says what was taken. The sum is float32, whatever the base was stored in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pi05.checkpoint.tensors import Index, Shapes, TensorSource
from pi05.errors import CheckpointError

PARTS = ("lora_a", "lora_b")
HEADS = -3
"""The axis over which the output projection's B is summed."""
SCALING = (
    "LoRA leaves of openpi merged with the scaling alpha / rank = 1, as in all of openpi's variants; "
    "the checkpoint does not store alpha"
)


def with_lora_merged(source: TensorSource) -> TensorSource:
    """Return the source itself, or, where it holds LoRA leaves, one that reads as if they were merged.

    Raises CheckpointError for half a pair, a pair without its base, and shapes that do not multiply to the base's.
    """
    return MergedLora(source) if any(_part(name) for name in source.shapes) else source


class MergedLora:
    """A checkpoint without its LoRA leaves: each is worked into the leaf that it belongs to."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source
        self._pairs = _pairs(source.shapes)
        leaves = {leaf: base for base, pair in self._pairs.items() for leaf in pair}
        self.shapes = {name: shape for name, shape in source.shapes.items() if name not in leaves}
        self.merged: Mapping[str, str] = {**source.merged, **leaves}
        self.aside = source.aside
        self.notes = [*source.notes, SCALING]

    def read(self, name: str) -> Tensor:
        """Return one tensor, merged."""
        return next(self.parts(name, [()]))

    def parts(self, name: str, indices: Sequence[Index]) -> Iterator[Tensor]:
        """Yield parts of one tensor, merged, so that no more than one part exists twice."""
        if name not in self._pairs:
            yield from self._source.parts(name, indices)
            return
        lora_a, lora_b = (self._source.parts(leaf, indices) for leaf in self._pairs[name])
        for base, a, b in zip(self._source.parts(name, indices), lora_a, lora_b, strict=True):
            yield _merge(base, a, b.sum(HEADS, keepdim=True) if _sums_heads(name) else b)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return self._source.bytes

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file."""
        return self._source.hashes()


def _merge(base: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return base + a·b in float32, without a temporary of the product's size."""
    a, b = a.float(), b.float()
    leading = base.shape[:-2]
    matrices = base.float().reshape(-1, *base.shape[-2:])
    a, b = (side.expand(*leading, *side.shape[-2:]).reshape(-1, *side.shape[-2:]) for side in (a, b))
    return torch.baddbmm(matrices, a, b).reshape(base.shape)


def _part(name: str) -> str | None:
    """Return "lora_a" or "lora_b" for a LoRA leaf: `.../q_einsum/lora_a`, `.../gating_einsum_lora_a`."""
    return next((part for part in PARTS if name.endswith(("/" + part, "_" + part))), None)


def _sums_heads(base: str) -> bool:
    return "/attn_vec_einsum" in base


def _pairs(shapes: Shapes) -> dict[str, tuple[str, str]]:
    """Return the base leaf of every pair of LoRA leaves → the pair."""
    pairs: dict[str, tuple[str, str]] = {}
    faults = []
    for name in shapes:
        if (part := _part(name)) is None:
            continue
        stem, separator = name[: -len(part) - 1], name[-len(part) - 1]
        pair = (f"{stem}{separator}lora_a", f"{stem}{separator}lora_b")
        base = stem + "/w" if separator == "/" else stem
        other = pair[1] if part == "lora_a" else pair[0]
        if other not in shapes:
            faults.append(f"{name} without {other.rpartition('/')[2]}")
        elif base not in shapes:
            faults.append(f"{name} without its base {base}")
        elif base not in pairs:
            pairs[base] = pair
            faults += _misfit(base, *(shapes[leaf] for leaf in (base, *pair)))
    if faults:
        raise CheckpointError(
            "the LoRA leaves of the openpi checkpoint do not fit; nothing was loaded",
            wanted="lora_a and lora_b for a leaf of the base, with shapes that multiply to its own",
            found="; ".join(faults[:4]) + (f"; {len(faults) - 4} more" if len(faults) > 4 else ""),
            remedy="use a checkpoint that was written completely",
        )
    return pairs


def _misfit(name: str, base: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> list[str]:
    """Return what is wrong with the shapes of a pair: [.., in, rank] · [.., rank, out] must be [.., in, out]."""
    fits = len(base) >= 2 and a[:-1] == base[:-1] and b[:-2] == base[:-2] and b[-1] == base[-1] and a[-1] == b[-2]
    return [] if fits else [f"{list(a)} times {list(b)} is not {list(base)} of {name}"]
