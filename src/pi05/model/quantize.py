"""Frozen weights in 4 or 8 bits, put under linear maps and the embedding from outside; adapters on top stay float32.

    nf4    16 values that share a normal distribution evenly (QLoRA, arXiv 2305.14314), two codes to a byte
    int8   −127 … 127 in even steps

Each block of 64 weights has a float32 scale, its largest magnitude: 0.5625 and 1.0625 bytes per weight. The embedding
is held in int8 either way. Products are computed in the precision of the input with the weight that codes and scale
stand for; that weight lives for the moment of a product, forward and again backward. Codes, order and scales of nf4 are
those of bitsandbytes. Leaves out which adapters there are (`lora.py`) and how precisions are chosen (`train/`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor, nn

from pi05.model.pi05 import Pi05

CodeKind = Literal["nf4", "int8"]
CODE_KINDS: tuple[CodeKind, ...] = ("nf4", "int8")
BLOCK = 64
PORTION = 2**22
"""Weights that are quantised at a time, so that temporary tensors stay small."""
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The values of the codes 0 … 15 (QLoRA, appendix E)."""
BYTE_VALUES: dict[torch.device, Tensor] = {}
"""What `byte_values` has made. A dictionary, because Dynamo sees through functools.cache and would copy every time."""


class QuantizedWeight(nn.Module):
    """A matrix as codes and scales. Both are parameters without gradient, so that they move with the model."""

    def __init__(self, weight: Float[Tensor, "rows columns"], kind: CodeKind, block: int | None = None) -> None:
        """Quantise `weight`, portion by portion; `block` weights in a row share a scale (default: up to 64)."""
        super().__init__()
        self.kind, self.shape = kind, weight.shape
        self.block = block or math.gcd(BLOCK, weight.numel())
        flat = weight.detach().reshape(-1)
        size = PORTION // self.block * self.block
        parts = [_encode(flat[start : start + size], kind, self.block) for start in range(0, len(flat), size)]
        self.codes = nn.Parameter(torch.cat([codes for codes, _ in parts]), requires_grad=False)
        self.scales = nn.Parameter(torch.cat([scales for _, scales in parts]), requires_grad=False)

    def dequantize(self, dtype: torch.dtype) -> Float[Tensor, "rows columns"]:
        """Return the matrix that codes and scales stand for."""
        return _decode(self.codes, self.scales, self.kind, dtype).view(self.shape)

    def product(
        self, x: Float[Tensor, "*batch columns"], bias: Float[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "*batch rows"]:
        """Return `x @ matrix.T + bias` in the precision of `x`; takes the place of `Linear.product`."""
        product: Tensor = _Product.apply(x, bias, self.codes, self.scales, self.kind, self.shape)
        return product

    def rows(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch columns"]:
        """Return rows of the matrix in float32; takes the place of `nn.Embedding.forward`. Needs int8, whole blocks."""
        per_row = self.shape[1] // self.block
        codes = self.codes.view(self.shape)[indices]
        return _decode(codes, self.scales.view(-1, per_row)[indices], self.kind, torch.float32).view(codes.shape)

    def extra_repr(self) -> str:
        """Name sizes and kind."""
        return f"{self.kind}, {tuple(self.shape)}, blocks of {self.block}"


class _Product(torch.autograd.Function):
    """A product with a quantised matrix. Autograd's own would keep the matrix itself for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, codes: Tensor, scales: Tensor, kind: CodeKind, shape: torch.Size
    ) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.kind, ctx.shape = kind, shape
        return F.linear(x, _decode(codes, scales, kind, x.dtype).view(shape), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        codes, scales = ctx.saved_tensors
        matrix = _decode(codes, scales, ctx.kind, gradient.dtype).view(ctx.shape)
        return gradient @ matrix, None, None, None, None, None


def _encode(
    flat: Float[Tensor, " n"], kind: CodeKind, block: int
) -> tuple[Shaped[Tensor, " codes"], Float[Tensor, " b"]]:
    """Return codes and scales of whole blocks of weights."""
    blocks = flat.float().view(-1, block)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    parts = blocks / torch.where(largest > 0, largest, 1.0)
    if kind == "int8":
        return (parts * 127).round().to(torch.int8).view(-1), largest.view(-1)
    values = torch.tensor(NF4)
    codes = torch.zeros_like(parts, dtype=torch.uint8)
    for between in ((values[1:] + values[:-1]) / 2).tolist():  # a third of the time of torch.bucketize on a CPU
        codes += parts > between
    pairs = codes.view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1], largest.view(-1)


def _decode(
    codes: Shaped[Tensor, "*codes"], scales: Float[Tensor, "*b"], kind: CodeKind, dtype: torch.dtype
) -> Float[Tensor, "b block"]:
    """Return the weights of codes, a row per scale."""
    if kind == "int8":
        parts = codes.reshape(scales.numel(), -1).float() / 127
    else:
        parts = byte_values(codes.device)[codes.int()].view(scales.numel(), -1)
    return (parts * scales.reshape(-1, 1)).to(dtype)


def byte_values(device: torch.device) -> Float32[Tensor, "256 2"]:
    """Return the two values that each byte of nf4 codes stands for. Made once: for the copy a GPU is waited for."""
    if device not in BYTE_VALUES:
        values = torch.tensor(NF4)
        BYTE_VALUES[device] = torch.stack([values.repeat_interleave(16), values.repeat(16)], dim=1).to(device)
    return BYTE_VALUES[device]


def quantized_names(model: Pi05, full: Collection[str] = ()) -> list[str]:
    """Return the modules whose weights a quantised base holds in codes: all of the towers' and the embedding.

    `full` are the parameters that are trained in full; their maps are left as they are.
    """
    names = [*model.tower_maps, "embedding"]
    return [name for name in names if not {f"{name}.weight", f"{name}.bias"} & set(full)]


@torch.no_grad()
def quantize_frozen(model: Pi05, kind: CodeKind, full: Collection[str] = ()) -> None:
    """Put codes in the place of the frozen weights, one after the other; adapters stay where they are.

    `full` are the parameters that are trained in full. Where there are only shapes (`meta`), so are the codes.
    """
    for name in quantized_names(model, full):
        module = model.get_submodule(name)
        quantized = _quantize(module, kind)
        module.register_parameter("weight", None)
        module.add_module("quantized", quantized)
        if isinstance(module, nn.Embedding):
            setattr(module, "forward", quantized.rows)  # noqa: B010
        else:
            setattr(module, "product", quantized.product)  # noqa: B010


@torch.no_grad()
def round_frozen(model: Pi05, kind: CodeKind, full: Collection[str] = ()) -> None:
    """Give every weight that `quantize_frozen` would put into codes the value that its codes stand for, in place.

    So an adapter that was trained on a quantised base finds the same base in any precision, and can be merged with it.
    """
    for name in quantized_names(model, full):
        module = model.get_submodule(name)
        weight = module.weight
        if isinstance(weight, nn.Parameter):
            weight.copy_(_quantize(module, kind).dequantize(weight.dtype))


def _quantize(module: nn.Module, kind: CodeKind) -> QuantizedWeight:
    """Quantise a map's weight. Of the embedding single rows are read, so its blocks lie within rows."""
    weight = module.weight
    if not isinstance(weight, nn.Parameter):
        raise ValueError("the weight is quantised already")
    if isinstance(module, nn.Embedding):
        return QuantizedWeight(weight, "int8", math.gcd(BLOCK, weight.shape[1]))
    return QuantizedWeight(weight, kind)


def quantized_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """Return the quantised matrices by the name of their map, in the model's order."""
    return {
        name.removesuffix(".quantized"): module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedWeight)
    }
