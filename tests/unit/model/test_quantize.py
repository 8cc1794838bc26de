"""Weights in codes: how far they are off, what they take, and that products with them are those with what they mean."""

from __future__ import annotations

import itertools
from copy import deepcopy
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_network import CONFIG, make_batch, make_model

from pi05.model import quantize
from pi05.model.layers import Linear
from pi05.model.lora import LoraSpec, add_lora
from pi05.model.pi05 import Pi05
from pi05.model.quantize import (
    BLOCK,
    CODE_KINDS,
    NF4,
    CodeKind,
    QuantizedWeight,
    quantize_frozen,
    quantized_names,
    round_frozen,
)
from pi05.train.activations import apply_from_outside

WIDEST_GAP = max(b - a for a, b in itertools.pairwise(NF4)) / 2
"""Largest error of nf4 over the largest magnitude of the block: half of the widest gap between two values, 0.152."""
LIMITS = {"nf4": WIDEST_GAP, "int8": 0.5 / 127}
RMS = {"nf4": 0.092, "int8": 0.006}
"""Root mean square of the error over the standard deviation, of normal weights in blocks of 64."""


def draw(*shape: int, std: float = 0.02) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * std


@pytest.mark.parametrize("kind", CODE_KINDS)
def test_error_of_normal_weights(kind: CodeKind) -> None:
    weight = draw(256, 1024)
    error = QuantizedWeight(weight, kind).dequantize(torch.float32) - weight
    assert error.square().mean().sqrt() / weight.std() == pytest.approx(RMS[kind], rel=0.03)


@given(
    kind=st.sampled_from(CODE_KINDS),
    rows=st.integers(1, 5),
    columns=st.integers(1, 6).map(lambda n: 32 * n),
    scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e20]),
)
def test_no_weight_is_further_off_than_half_a_gap(kind: CodeKind, rows: int, columns: int, scale: float) -> None:
    weight = draw(rows, columns, std=scale)
    held = QuantizedWeight(weight, kind)
    result = held.dequantize(torch.float32)
    blocks = weight.view(-1, held.block)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    error = (result.view_as(blocks) - blocks).abs()
    assert bool((error <= largest * (LIMITS[kind] + 1e-6)).all())
    again = QuantizedWeight(result, kind)
    assert torch.equal(again.dequantize(torch.float32), result)


def test_nf4_meets_its_sixteen_values() -> None:
    """In the order of bitsandbytes: the first weight of a pair is the upper half of the byte."""
    weight = torch.tensor([NF4]).repeat(1, 4) * 3
    held = QuantizedWeight(weight, "nf4")
    assert held.codes[:8].tolist() == [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]
    assert torch.equal(held.scales, torch.tensor([3.0]))
    assert torch.equal(held.dequantize(torch.float32), weight)


def test_nf4_shares_a_normal_distribution_evenly() -> None:
    """QLoRA's construction: quantiles of the normal distribution, 8 steps below zero and 9 above, over the largest."""
    quantile, end = NormalDist().inv_cdf, 0.9677083
    above = [quantile(0.5 + (end - 0.5) * step / 8) for step in range(1, 9)]
    below = [-quantile(0.5 + (end - 0.5) * step / 7) for step in range(1, 8)]
    assert sorted([*below, 0.0, *above]) == pytest.approx([value * above[-1] for value in NF4], abs=1e-6)


@pytest.mark.parametrize("kind", CODE_KINDS)
def test_portions_do_not_change_the_result(kind: CodeKind, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = QuantizedWeight(draw(30, 192), kind)
    monkeypatch.setattr(quantize, "PORTION", 1_000)
    again = QuantizedWeight(draw(30, 192), kind)
    assert torch.equal(whole.codes, again.codes)
    assert torch.equal(whole.scales, again.scales)


def test_rows_of_an_embedding_have_their_own_scales() -> None:
    """Three blocks to a row, of very different sizes."""
    weight = draw(5, 192) * torch.logspace(-3, 3, 15).view(5, 3, 1).expand(5, 3, 64).reshape(5, 192)
    held = QuantizedWeight(weight, "int8")
    chosen = torch.tensor([[4, 0], [2, 2]])
    assert torch.equal(held.rows(chosen), held.dequantize(torch.float32)[chosen])


@pytest.mark.parametrize(("kind", "per_weight"), [("nf4", 0.5 + 4 / BLOCK), ("int8", 1 + 4 / BLOCK)])
def test_bytes_per_weight(kind: CodeKind, per_weight: float) -> None:
    held = QuantizedWeight(draw(128, 192), kind)
    assert sum(value.untyped_storage().nbytes() for value in held.parameters()) == per_weight * 128 * 192


@pytest.mark.parametrize("kind", CODE_KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_with_the_weight_that_the_codes_mean(kind: CodeKind, bias: bool, dtype: torch.dtype) -> None:
    """Forward and backward, to the bit."""
    held = make_model()
    name = "vision.blocks.0.mlp.up" if bias else "expert.layers.0.mlp.up"
    plain = deepcopy(held.get_submodule(name))
    quantize_frozen(held, kind)
    map_ = held.get_submodule(name)
    with torch.no_grad():
        plain.weight.copy_(map_.get_submodule("quantized").dequantize(torch.float32))  # type: ignore[operator]
    inputs = [draw(3, 5, plain.in_features, std=1).to(dtype).requires_grad_() for _ in range(2)]
    outputs = [map_(inputs[0]), plain(inputs[1])]
    assert torch.equal(*outputs)
    for output in outputs:
        output.backward(draw(3, 5, plain.out_features, std=1).to(dtype))
    left, right = (each.grad for each in inputs)
    assert left is not None
    assert right is not None
    assert torch.equal(left, right)


def adapted(dtype: torch.dtype) -> Pi05:
    model = make_model()
    model.compute_dtype = dtype
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    maps = [name for name, module in model.named_modules() if type(module) is Linear and ".layers." in name]
    add_lora(model, dict.fromkeys(maps, LoraSpec(rank=2, alpha=2)), torch.Generator().manual_seed(1))
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    return model


def loss_and_gradients(model: Pi05) -> dict[str, torch.Tensor]:
    loss = model.loss(make_batch(3), generator=torch.Generator().manual_seed(4)).mean()
    loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"loss": loss.detach(), **gradients}


@pytest.mark.parametrize("kind", CODE_KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recompute", [0.0, 1.0, "selective"])
def test_a_network_on_codes_is_that_on_rounded_weights(kind: CodeKind, dtype: torch.dtype, recompute: float) -> None:
    """Loss and the gradient of every adapter, to the bit; recomputed activations included."""
    on_codes, rounded = adapted(dtype), adapted(dtype)
    full = ("expert.layers.0.norm1.modulation.weight", "expert.layers.0.norm1.modulation.bias")
    quantize_frozen(on_codes, kind, full)
    round_frozen(rounded, kind, full)
    apply_from_outside(on_codes, compile_layers=False, recompute_activations=recompute)  # type: ignore[arg-type]
    left, right = loss_and_gradients(on_codes), loss_and_gradients(rounded)
    assert left.keys() == right.keys()
    assert len(left) > 20
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def test_what_is_held_in_codes() -> None:
    model = Pi05(CONFIG)
    names = quantized_names(model)
    maps = {name for name, module in model.named_modules() if isinstance(module, Linear)}
    assert maps - set(names) == {"vision.patch_embedding", "action_in", "action_out", "time_in", "time_out"}
    assert set(names) - maps == {"embedding"}
    left = set(names) - set(quantized_names(model, ("embedding.weight", "vision.head.bias")))
    assert left == {"embedding", "vision.head"}


def test_the_backward_pass_keeps_no_weight() -> None:
    """Autograd's own product would keep the weight in the precision of the activations until its backward pass."""
    held = QuantizedWeight(draw(512, 64), "nf4")
    kept: list[torch.Size] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    x = draw(2, 64).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert held.product(x).requires_grad
        with_weight = len(kept)
        F.linear(x, held.dequantize(torch.float32))
    assert set(kept[:with_weight]) == {held.codes.shape, held.scales.shape}
    assert len(kept) > with_weight


def test_shapes_alone_are_enough() -> None:
    """Predictions of memory run on tensors without content."""
    with torch.device("meta"):
        model = Pi05(CONFIG)
    quantize_frozen(model, "nf4")
    assert all(value.is_meta for value in model.parameters())
    real = make_model()
    quantize_frozen(real, "nf4")
    shapes = [{name: (value.shape, value.dtype) for name, value in each.named_parameters()} for each in (model, real)]
    assert shapes[0] == shapes[1]
    with pytest.raises(ValueError, match="already"):
        quantize_frozen(real, "nf4")
