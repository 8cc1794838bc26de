"""The network against LeRobot's π₀.₅ (0.6.2), float32, stage by stage; LeRobot's inputs after its own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from network_modes import FEW_MODES, in_mode

from pi05.checkpoint.lerobot.names import PREFIX, lerobot_layout
from pi05.checkpoint.load import load_model, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.openpi.names import EMBEDDING
from pi05.model import flow
from pi05.model.pi05 import Pi05

STAGE_TOLERANCE = 2e-5
"""Absolute; float32 sums in another order."""
ACTION_TOLERANCE = 1e-4
"""Absolute; the same, collected over the Euler steps."""
LOSS_TOLERANCE = 5e-5
"""Absolute, per element; both compute the time embedding in float64."""
MEAN_TOLERANCE = 2e-6
"""Absolute, for means over 210 and 960 elements: rounding averages out."""
GRADIENT_TOLERANCE = 2e-5
"""Absolute; gradients reach 1.2."""
GRADIENT_RELATIVE_TOLERANCE = 1e-4
"""Relative to the greatest gradient of the same tensor, so that small gradients are compared as strictly."""
GRADIENT_NOISE = 1e-8
"""Absolute, at least: the gradient of a key bias is zero but for rounding."""


@pytest.fixture(scope="module", params=FEW_MODES)
def model(lerobot, request) -> Iterator[Pi05]:
    with in_mode(load_model(lerobot.weights, config=lerobot.config), request.param) as model:
        yield model


def test_receipt(lerobot):
    model, receipt = read_model(locate(lerobot.weights), config=lerobot.config)
    assert receipt.layout == "LeRobot"
    assert set(receipt.loaded) == {name for name, _ in model.named_parameters()}
    assert sorted(receipt.ignored) == [
        "model.paligemma_with_expert.gemma_expert.lm_head.weight",
        "model.paligemma_with_expert.paligemma.lm_head.weight",
    ]
    assert all(reason.startswith("not used by π₀.₅") for reason in receipt.ignored.values())
    language_head = receipt.ignored["model.paligemma_with_expert.paligemma.lm_head.weight"]
    assert language_head.endswith(f"embedding was read from {PREFIX}{EMBEDDING}")
    assert not receipt.tied
    assert not receipt.fresh


@pytest.mark.parametrize("camera", [0, 1])
def test_image_tokens(model, lerobot, compare, camera):
    with torch.no_grad():
        tokens = model.encode_images(lerobot.batch.images, lerobot.batch.image_mask)
    compare(f"image tokens {camera}", tokens[:, camera], lerobot.outputs[f"image_tokens_{camera}"], STAGE_TOLERANCE)


def test_prompt_tokens(model, lerobot, compare):
    with torch.no_grad():
        tokens, _ = model.embed_prefix(lerobot.batch)
    prompt = tokens[:, -lerobot.batch.tokens.shape[1] :][lerobot.batch.token_mask]
    compare("prompt tokens", prompt, lerobot.outputs["prompt_tokens"], STAGE_TOLERANCE)


def test_suffix_and_condition(model, lerobot, compare):
    x_t, _ = flow.interpolate(lerobot.batch.actions, lerobot.noise, lerobot.time)
    compare("x_t", x_t, lerobot.outputs["suffix.x_t"], 1e-6)
    with torch.no_grad():
        compare("suffix", model.embed_suffix(x_t), lerobot.outputs["suffix.embs"], STAGE_TOLERANCE)
        compare("condition", model.condition(lerobot.time), lerobot.outputs["suffix.adarms_cond"], STAGE_TOLERANCE)


def test_velocity_along_the_sampled_path(model, lerobot, compare):
    x_t = lerobot.noise
    with torch.no_grad():
        tokens, valid = model.embed_prefix(lerobot.batch)
        cache = model.prefill(tokens, valid)
        for step, time in enumerate(torch.from_numpy(lerobot.outputs["infer.timesteps"])):
            golden = torch.from_numpy(lerobot.outputs["infer.v_t"][step])
            compare(f"v_t at step {step}", model.velocity(x_t, time, cache, valid), golden, STAGE_TOLERANCE)
            x_t = x_t - golden / 10


def test_loss(model, lerobot, compare):
    with torch.no_grad():
        losses = model.loss(lerobot.batch, lerobot.noise, lerobot.time)
    compare("loss per element", losses, lerobot.outputs["train.loss_per_element"], LOSS_TOLERANCE)
    compare("mean over 32 dimensions", losses.mean(), lerobot.extra["loss_per_element_mean_padded"], MEAN_TOLERANCE)
    robot_dim = lerobot.extra["action_dim"]
    total, count = flow.reduce_loss(losses, None, robot_dim, "lerobot")
    compare("mean over 7 dimensions", total / count, lerobot.extra["mean_loss"], MEAN_TOLERANCE)
    per_sample = losses[..., :robot_dim].mean(dim=(1, 2))
    compare("loss per sample", per_sample, lerobot.outputs["train.loss_per_sample"], LOSS_TOLERANCE)


def test_every_gradient(model, lerobot, compare):
    model.zero_grad()
    losses = model.loss(lerobot.batch, lerobot.noise, lerobot.time)
    total, count = flow.reduce_loss(losses, None, lerobot.extra["action_dim"], "lerobot")
    (total / count).backward()
    layout = lerobot_layout(lerobot.config.depth, lerobot.config.vision_depth)
    without = {name for name, targets in layout.targets.items() if model.get_parameter(targets[0].name).grad is None}
    # LeRobot computes the queries of the last language layer; nothing reads what comes of them, so their gradient is 0.
    query = "model.paligemma_with_expert.paligemma.model.language_model.layers.2.self_attn.q_proj.weight"
    assert without == {*lerobot.extra["params_without_grad"], query} - set(layout.dead)
    filled = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    foreign = layout.to_foreign(filled)
    assert set(lerobot.extra["grads"]) == set(layout.targets) - (without - {query})
    for name, golden in lerobot.extra["grads"].items():
        if name == query:
            assert not golden.any()
            continue
        relative = GRADIENT_RELATIVE_TOLERANCE * float(np.abs(golden).max())
        compare(name, foreign[name], golden, min(GRADIENT_TOLERANCE, max(relative, GRADIENT_NOISE)))
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in filled.values()))
    compare("gradient norm", norm, lerobot.extra["grad_norm_preclip"], 1e-5)
    model.zero_grad()


@pytest.mark.parametrize("steps", [10, 5])
def test_actions(model, lerobot, compare, steps):
    actions = model.sample_actions(lerobot.batch, lerobot.sample_noise, num_steps=steps)
    compare(f"actions, {steps} steps", actions, lerobot.outputs[f"infer.actions_padded_{steps}steps"], ACTION_TOLERANCE)


def test_lerobot_folder(shared, lerobot):
    """A whole LeRobot folder, sizes from its config.json: weights load, and `config` wins over what is not a size."""
    model, receipt = read_model(locate(shared / "golden" / "lerobot" / "checkpoints" / "full"), config=lerobot.config)
    assert receipt.layout == "LeRobot"
    assert model.config == lerobot.config
