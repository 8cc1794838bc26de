"""The network against openpi's JAX model, float32, stage by stage, so that a mismatch names its stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from block_attention import EITHER
from network_modes import MODES, compilations, in_mode
from safetensors.torch import save_file
from torch import Tensor

from pi05.checkpoint.load import load_model
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.openpi.names import EMBEDDING, EXPERT_HEAD, LANGUAGE_HEAD, openpi_layout
from pi05.model import flow
from pi05.model.pi05 import Pi05

TOKEN_TOLERANCE = 2e-5
"""Absolute, up to the keys and values, which reach 5; float32 sums in another order (XLA's and oneDNN's)."""
STAGE_TOLERANCE = 1e-4
"""Absolute, where the time embedding has a part (see below); velocities and actions reach 5."""
LOSS_TOLERANCE = 5e-5
"""Absolute, per element. openpi's own JAX and PyTorch models differ by up to 5e-5 here: JAX computes the angles of the
time embedding, up to 1,570 rad, in float32. Ours are computed in float64, as those of openpi's PyTorch and LeRobot."""
LOSS_RELATIVE_TOLERANCE = 1e-6
"""Added to it: a few units in the last place of a loss that reaches 36, which another CPU may round otherwise."""
SAME_TIME_LOSS_TOLERANCE = 2e-5
"""Absolute, per element, once JAX's own time condition is used."""
MEAN_TOLERANCE = 2e-6
"""Absolute, for means over 960 elements: rounding averages out."""
GRADIENT_TOLERANCE = 1e-5
"""Absolute; gradients reach 0.3."""
GRADIENT_RELATIVE_TOLERANCE = 1e-4
"""Relative to the greatest gradient of the same tensor, so that small gradients are compared as strictly."""
GRADIENT_NOISE = 1e-8
"""Absolute, at least: a key bias shifts all scores of a query alike, so its gradient is zero but for rounding."""
DEAD = ("language.norm", "layers.2.attention.query", "layers.2.attention.out", "layers.2.mlp")
"""Parameters of the language model that no output depends on: openpi's gradient is zero, ours is None."""


@pytest.fixture(scope="module", params=MODES)
def model(openpi, request) -> Iterator[Pi05]:
    with in_mode(load_model(openpi.weights, config=openpi.config), request.param) as model:
        yield model


@pytest.fixture(scope="module")
def prefix(model, openpi) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.embed_prefix(openpi.batch)


@pytest.fixture(scope="module")
def cache(model, prefix) -> list[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        return model.prefill(*prefix)


def test_image_tokens(model, openpi, compare):
    with torch.no_grad():
        tokens = model.encode_images(openpi.batch.images, openpi.batch.image_mask)
    compare("image tokens", tokens[openpi.batch.image_mask], openpi.outputs["image_tokens"], TOKEN_TOLERANCE)


def test_prefix(prefix, openpi, compare):
    tokens, valid = prefix
    patches = openpi.config.patches_per_image
    expected = torch.cat([openpi.batch.image_mask.repeat_interleave(patches, dim=1), openpi.batch.token_mask], dim=1)
    assert torch.equal(valid, expected)
    images, prompt = tokens[:, : 3 * patches], tokens[:, 3 * patches :]
    golden = openpi.outputs["image_tokens"].reshape(-1, tokens.shape[-1])
    compare("prefix, images", images[valid[:, : 3 * patches]], golden, TOKEN_TOLERANCE)
    compare("prefix, prompt", prompt[openpi.batch.token_mask], openpi.outputs["prompt_tokens"], TOKEN_TOLERANCE)


@pytest.mark.parametrize("layer", range(3))
def test_keys_and_values(cache, prefix, openpi, compare, layer):
    _, valid = prefix
    for part, name in enumerate(("kv_k", "kv_v")):
        ours = cache[layer][part][:, 0][valid]
        compare(f"layer {layer} {name}", ours, openpi.outputs[name][layer], TOKEN_TOLERANCE)


def test_flow(openpi, compare):
    x_t, u_t = flow.interpolate(openpi.batch.actions, openpi.noise, openpi.time)
    compare("x_t", x_t, openpi.extra["inputs"]["x_t"], 1e-6)
    compare("u_t", u_t, openpi.extra["inputs"]["u_t"], 1e-6)


def test_suffix(model, openpi, compare):
    with torch.no_grad():
        compare("suffix", model.embed_suffix(openpi.extra["inputs"]["x_t"]), openpi.outputs["suffix_tokens"], 1e-5)


def test_condition(model, openpi, compare):
    embedded = flow.embed_time(openpi.time, openpi.config.expert_width)
    compare("time embedding", embedded, openpi.outputs["time_emb"], STAGE_TOLERANCE)
    with torch.no_grad():
        compare("condition", model.condition(openpi.time), openpi.outputs["adarms_cond"], STAGE_TOLERANCE)


def test_velocity(model, prefix, cache, openpi, compare):
    hidden = []
    handle = model.expert.register_forward_hook(lambda module, inputs, output: hidden.append(output))
    with torch.no_grad():
        v_t = model.velocity(openpi.extra["inputs"]["x_t"], openpi.time, cache, prefix[1])
    handle.remove()
    compare("expert output", hidden[0], openpi.outputs["suffix_out"], STAGE_TOLERANCE)
    compare("v_t", v_t, openpi.outputs["v_t"], STAGE_TOLERANCE)


def test_velocity_along_the_sampled_path(model, prefix, cache, openpi, compare):
    for step, (x_t, time) in enumerate(zip(openpi.outputs["traj_x"], openpi.outputs["traj_t"], strict=False)):
        times = torch.full((len(x_t),), float(time))
        with torch.no_grad():
            v_t = model.velocity(torch.from_numpy(x_t), times, cache, prefix[1])
        compare(f"v_t at step {step}", v_t, openpi.outputs["traj_v"][step], STAGE_TOLERANCE)


@pytest.fixture(params=[None, *EITHER.values()], ids=["masked", *EITHER])
def reading(model, request) -> Iterator[Pi05]:
    """Return the network with masked and with packed keys."""
    model.varlen = request.param
    yield model
    model.varlen = None


def test_loss(reading, openpi, compare):
    model = reading
    with torch.no_grad():
        losses = model.loss(openpi.batch, openpi.noise, openpi.time)
    golden = openpi.outputs["sq_err"]
    compare("loss per element", losses, golden, LOSS_TOLERANCE + LOSS_RELATIVE_TOLERANCE * golden.max())
    compare("mean loss", losses.mean(), openpi.outputs["loss_mean"], MEAN_TOLERANCE)


@pytest.mark.parametrize("draws", [2, 3])
def test_loss_of_equal_flow_draws(model, openpi, compare, draws):
    """K draws per sample that are all the recorded one have its loss: openpi knows one draw only."""
    noise, time = (tensor.repeat_interleave(draws, dim=0) for tensor in (openpi.noise, openpi.time))
    with torch.no_grad():
        losses = model.loss(openpi.batch, noise, time, flow_samples=draws)
    golden = openpi.outputs["sq_err"]
    compare("loss per element", losses, golden, LOSS_TOLERANCE + LOSS_RELATIVE_TOLERANCE * golden.max())


class GivenCondition(Pi05):
    """The network with a recorded time condition in place of its own."""

    given: Tensor

    def condition(self, time: Tensor) -> Tensor:
        return self.given


def test_loss_under_the_recorded_condition(openpi, compare):
    """What is left of the difference when JAX's float32 time embedding is taken out of it."""
    model = GivenCondition(openpi.config)
    model.given = torch.from_numpy(openpi.outputs["adarms_cond"])
    model.load_state_dict(load_model(openpi.weights, config=openpi.config).state_dict())
    with torch.no_grad():
        losses = model.loss(openpi.batch, openpi.noise, openpi.time)
    compare("loss per element, same condition", losses, openpi.outputs["sq_err"], SAME_TIME_LOSS_TOLERANCE)


@pytest.mark.parametrize("draws", [1, 2])
def test_every_gradient(reading, openpi, compare, draws):
    model = reading
    model.zero_grad()
    noise, time = (tensor.repeat_interleave(draws, dim=0) for tensor in (openpi.noise, openpi.time))
    model.loss(openpi.batch, noise, time, flow_samples=draws).mean().backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    dead = {name for name in ours if name.startswith("language.") and any(part in name for part in DEAD)}
    dead.add("language.layers.2.mlp_norm.scale")
    assert {name for name, gradient in ours.items() if gradient is None} == dead
    filled = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    foreign = jax_layout(openpi.config).to_foreign(filled)
    assert foreign.keys() == openpi.extra["grads"].keys()
    for name, golden in openpi.extra["grads"].items():
        if not golden.any():
            assert not foreign[name].any(), name
            continue
        relative = GRADIENT_RELATIVE_TOLERANCE * float(np.abs(golden).max())
        compare(name, foreign[name], golden, min(GRADIENT_TOLERANCE, max(relative, GRADIENT_NOISE)))
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in filled.values()))
    compare("gradient norm", norm, openpi.outputs["grad_norm"], 1e-5)
    model.zero_grad()


@pytest.mark.parametrize(("steps", "name"), [(10, "sample_actions"), (5, "sample_actions_5steps")])
def test_actions(model, openpi, compare, steps, name):
    actions = model.sample_actions(openpi.batch, openpi.sample_noise, num_steps=steps)
    compare(f"actions, {steps} steps", actions, openpi.outputs[name], STAGE_TOLERANCE)


@pytest.mark.parametrize("sample", range(3))
def test_actions_one_sample_at_a_time(model, openpi, compare, sample):
    """Batch of one, so that trimming drops what this sample does not use."""
    batch = replace(
        openpi.batch,
        images=openpi.batch.images[sample : sample + 1],
        image_mask=openpi.batch.image_mask[sample : sample + 1],
        tokens=openpi.batch.tokens[sample : sample + 1],
        token_mask=openpi.batch.token_mask[sample : sample + 1],
        actions=None,
    )
    actions = model.sample_actions(batch, openpi.sample_noise[sample : sample + 1])
    golden = openpi.outputs["sample_actions"][sample : sample + 1]
    compare(f"actions of sample {sample}", actions, golden, STAGE_TOLERANCE)


def test_what_was_compiled(model, openpi, request):
    """One piece of code per kind of layer, the last language layer being one; or none where none is asked for."""
    mode = request.node.callspec.params["model"]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.loss(openpi.batch, openpi.noise, openpi.time)
    assert compilations() == (0 if mode.backend is None else 4)


def test_openpi_pytorch_file(model, openpi, compare, tmp_path: Path):
    """Our weights under openpi's PyTorch names are, tensor by tensor, the bytes that openpi itself wrote for them."""
    prints = json.loads((openpi.weights.parent / "torch_fingerprints.json").read_text())
    layout = openpi_layout(openpi.config.depth, openpi.config.vision_depth)
    tensors = {name: tensor.contiguous() for name, tensor in layout.to_foreign(dict(model.named_parameters())).items()}
    tensors[LANGUAGE_HEAD] = tensors.pop(EMBEDDING)
    assert prints.keys() - tensors.keys() == {EXPERT_HEAD}
    for name, tensor in tensors.items():
        assert list(tensor.shape) == prints[name]["shape"], name
        values = tensor.detach().numpy().tobytes()
        assert hashlib.sha256(values).hexdigest() == prints[name]["sha256"], name
    tensors[EXPERT_HEAD] = torch.ones(prints[EXPERT_HEAD]["shape"])
    save_file({name: tensor.detach() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path, config=openpi.config)
    actions = loaded.sample_actions(openpi.batch, openpi.sample_noise)
    compare("actions from PyTorch names", actions, openpi.outputs["sample_actions"], STAGE_TOLERANCE)


def test_openpi_pytorch_file_as_openpi_wrote_it(shared, openpi, compare):
    path = shared / "golden" / "openpi" / "tiny" / "torch_model_openpi_names.safetensors"
    actions = load_model(path, config=openpi.config).sample_actions(openpi.batch, openpi.sample_noise)
    compare("actions from openpi's own file", actions, openpi.outputs["sample_actions"], STAGE_TOLERANCE)
