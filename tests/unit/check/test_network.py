"""What the packaged base does with frames as they are, and with its weights broken in each of the known ways."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_network import make_batch, make_model

from pi05 import load_model
from pi05.check.network import BaseMeasures, judge_base, measure_base
from pi05.data.tokenizer import Tokenizer
from pi05.model.pi05 import Pi05
from pi05.train.config import TINY_BASE
from pi05.types import Batch


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Six samples: blurred noise as pictures, prompts as training writes them, slow motions in two dimensions."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 1, 6, 6, 3), dtype=np.uint8)
    images = coarse.repeat(8, axis=2).repeat(8, axis=3)
    tokenizer = Tokenizer.load(TINY_BASE)
    texts = [f"Task: pick up the red block, State: {a} {b};\nAction: " for a, b in rng.integers(0, 256, (6, 2))]
    ids = tokenizer.encode_many(texts)
    longest = max(map(len, ids))
    actions = np.zeros((6, 10, 32), np.float32)
    phase = np.linspace(0, 2, 10)[None, :, None] + rng.uniform(0, 6, (6, 1, 2))
    actions[..., :2] = 0.7 * np.sin(phase)
    return Batch(
        images=torch.from_numpy(images),
        image_mask=torch.ones(6, 1, dtype=torch.bool),
        tokens=torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in ids]),
        token_mask=torch.tensor([[True] * len(tokens) + [False] * (longest - len(tokens)) for tokens in ids]),
        actions=torch.from_numpy(actions),
        action_mask=torch.ones(6, 10, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def packaged() -> Pi05:
    return load_model(TINY_BASE)


def scale(factor: float) -> Callable[[Pi05], None]:
    def damage(model: Pi05) -> None:
        model.embedding.weight *= math.sqrt(model.config.language_width) ** factor

    return damage


def shuffle(model: Pi05) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        flat = parameter.flatten()
        parameter.copy_(flat[torch.randperm(len(flat), generator=generator)].view_as(parameter))


def draw(model: Pi05) -> None:
    generator = torch.Generator().manual_seed(0)
    model.initialize(generator)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def blind(model: Pi05) -> None:
    for parameter in model.vision.parameters():
        parameter.zero_()


def close(model: Pi05) -> None:
    model.initialize(torch.Generator().manual_seed(0))


def nothing(model: Pi05) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (nothing, {"base.network"}),
        (scale(1), {"base.embedding_scale"}),
        (scale(-1), {"base.embedding_scale"}),
        (blind, {"base.vision_dead"}),
        (shuffle, {"base.loss"}),
        (draw, {"base.loss"}),
        (close, {"base.loss", "base.pictures_without_effect", "base.prompt_without_effect"}),
    ],
)
@torch.no_grad()
def test_each_damage_of_the_packaged_base_is_named(
    batch: Batch, packaged: Pi05, damage: Callable[[Pi05], None], names: set[str]
) -> None:
    model = copy.deepcopy(packaged)
    damage(model)
    findings = list(judge_base(measure_base(model, [batch])))
    assert {finding.name for finding in findings} == names
    assert all(finding.status == "error" for finding in findings) == (damage is not nothing)


def test_the_loss_is_that_of_training_over_the_robots_own_dimensions() -> None:
    model, batch = make_model(), make_batch(4)
    batch = replace(batch, actions=torch.cat([batch.actions[..., :4], torch.zeros(4, 5, 2)], dim=-1))
    found = measure_base(model, [batch])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(batch.actions.shape, generator=generator)
    time = torch.rand(4, generator=generator) ** (1 / 1.5) * 0.999 + 0.001
    losses = model.loss(batch, noise=noise, time=time).detach()[..., :4][batch.action_mask]
    assert found.loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found.loss_of_zero == pytest.approx(1 + float(batch.actions[..., :4][batch.action_mask].square().mean()))
    assert found == measure_base(model, [batch], action_dims=4)
    assert found != measure_base(model, [batch], action_dims=6)


def test_masked_cameras_and_padded_prompts_do_not_count() -> None:
    model, batch = make_model(), make_batch(4)
    mask = torch.tensor([[True, False]] * 3 + [[True, True]])
    tokens = torch.ones(4, 8, dtype=torch.bool)
    tokens[0, 3:] = False
    masked = replace(batch, image_mask=mask, token_mask=tokens)
    other = replace(
        masked,
        images=torch.where(mask[:, :, None, None, None], masked.images, 7),
        tokens=torch.where(tokens, masked.tokens, 1),
    )
    assert measure_base(model, [masked]) == measure_base(model, [other])


def test_measuring_leaves_the_callers_random_numbers_and_gradients_alone() -> None:
    model, batch = make_model(), make_batch(2)
    before = torch.get_rng_state()
    measure_base(model, [batch, batch])
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_is_not_finite_is_said_to_be() -> None:
    sound = measure_base(make_model(), [make_batch(2)])
    found = list(judge_base(BaseMeasures(**{**vars(sound), "loss": math.nan})))
    assert [finding.name for finding in found] == ["base.not_finite"]
    assert found[0].status == "error"
