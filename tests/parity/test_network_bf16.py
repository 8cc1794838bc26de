"""The network with float32 parameters and bfloat16 arithmetic against openpi's JAX model computing the same way.

A bfloat16 number has 8 significant bits, and the two frameworks round at different places (JAX fuses, and SigLIP's
softmax there is bfloat16), so that tokens can only agree to some units in the last place of the largest value. openpi's
own two precisions differ by up to 0.08 in tokens and 7e-3 in actions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from network_modes import FEW_MODES, in_mode
from torch import Tensor

from pi05.checkpoint.load import load_model
from pi05.model.pi05 import Pi05

FLOW_TOLERANCE = 2e-2
"""Absolute, for mean loss, gradient norm and actions: three times the difference of openpi's own two precisions."""
VELOCITY_TOLERANCE = 3e-2
"""Absolute, for v_t: openpi's own two precisions differ by 0.0195 there; 0.0214 was seen with AVX-512, compiled."""
TOKEN_TOLERANCE = 2**-5
"""Relative to the tensor's largest value: 8 units in the last place, collected over the layers."""


@pytest.fixture(scope="module", params=FEW_MODES)
def model(openpi_bf16, request) -> Iterator[Pi05]:
    model = load_model(openpi_bf16.weights, config=openpi_bf16.config, compute_dtype=torch.bfloat16)
    with in_mode(model, request.param) as model:
        yield model


@pytest.fixture(scope="module")
def prefix(model, openpi_bf16) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.embed_prefix(openpi_bf16.batch)


@pytest.fixture(scope="module")
def cache(model, prefix) -> list[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        return model.prefill(*prefix)


def relative(golden: np.ndarray) -> float:
    return TOKEN_TOLERANCE * float(np.abs(golden).max())


def test_what_is_computed_in_which_precision(model, prefix, cache, openpi_bf16):
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert prefix[0].dtype == torch.bfloat16
    assert {tensor.dtype for pair in cache for tensor in pair} == {torch.bfloat16}
    assert model.embed_suffix(openpi_bf16.noise).dtype == torch.float32
    assert model.condition(openpi_bf16.time).dtype == torch.float32
    assert model.loss(openpi_bf16.batch, openpi_bf16.noise, openpi_bf16.time).dtype == torch.float32


def test_tokens(model, prefix, openpi_bf16, compare):
    batch, golden = openpi_bf16.batch, openpi_bf16.outputs
    with torch.no_grad():
        images = model.encode_images(batch.images, batch.image_mask)[batch.image_mask]
    compare("image tokens", images.float(), golden["image_tokens"], relative(golden["image_tokens"]))
    prompt = prefix[0][:, -batch.tokens.shape[1] :][batch.token_mask].float()
    compare("prompt tokens", prompt, golden["prompt_tokens"], relative(golden["prompt_tokens"]))


@pytest.mark.parametrize("layer", range(3))
def test_keys_and_values(cache, prefix, openpi_bf16, compare, layer):
    for part, name in enumerate(("kv_k", "kv_v")):
        golden = openpi_bf16.outputs[name][layer]
        compare(f"layer {layer} {name}", cache[layer][part][:, 0][prefix[1]].float(), golden, relative(golden))


def test_velocity(model, prefix, cache, openpi_bf16, compare):
    x_t = openpi_bf16.extra["inputs"]["x_t"]
    with torch.no_grad():
        v_t = model.velocity(x_t, openpi_bf16.time, cache, prefix[1])
    compare("v_t", v_t, openpi_bf16.outputs["v_t"], VELOCITY_TOLERANCE)


def test_mean_loss(model, openpi_bf16, compare):
    with torch.no_grad():
        losses = model.loss(openpi_bf16.batch, openpi_bf16.noise, openpi_bf16.time)
    compare("mean loss", losses.mean(), openpi_bf16.outputs["loss_mean"], FLOW_TOLERANCE)


def test_gradient_norm(model, openpi_bf16, compare):
    model.zero_grad()
    model.loss(openpi_bf16.batch, openpi_bf16.noise, openpi_bf16.time).mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    compare("gradient norm", norm, openpi_bf16.outputs["grad_norm"], FLOW_TOLERANCE)
    model.zero_grad()


def test_actions(model, openpi_bf16, compare):
    actions = model.sample_actions(openpi_bf16.batch, openpi_bf16.sample_noise)
    compare("actions", actions, openpi_bf16.outputs["sample_actions"], FLOW_TOLERANCE)


def test_bfloat16_weights_serve(openpi_bf16, compare):
    """Parameters rounded to bfloat16 as well, as openpi serves; actions stay within the same tolerance."""
    model = load_model(openpi_bf16.weights, dtype=torch.bfloat16, config=openpi_bf16.config)
    assert model.compute_dtype == torch.bfloat16
    actions = model.sample_actions(openpi_bf16.batch, openpi_bf16.sample_noise)
    compare("actions, bfloat16 weights", actions, openpi_bf16.outputs["sample_actions"], FLOW_TOLERANCE)
