"""Work that nothing reads is not done, and leaving it out changes neither the loss nor any gradient.

The reference below does all of it, as the peers do: every camera encoded, prompts at full length, the whole last
language layer, and one attention over prefix and actions with an S x S mask.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pi05.model import flow
from pi05.model.gemma import rotate, rotation
from pi05.model.pi05 import Pi05
from pi05.types import Batch

TOLERANCE = 1e-5
"""Absolute, for losses up to 40 and gradients up to 5: the same sums in float32 in another order."""
MASKED_SCORE = -2.3819763e38


def padded_loss(model: Pi05, batch: Batch, noise: Tensor, time: Tensor) -> Tensor:
    """Compute the loss with all the dead work."""
    cameras = batch.images.shape[1]
    images = model.vision(batch.images.flatten(0, 1)).unflatten(0, (-1, cameras))
    prompt = model.embedding(batch.tokens) * math.sqrt(model.config.language_width)
    prefix = torch.cat([images.flatten(1, 2), prompt], dim=1)
    image_valid = batch.image_mask.repeat_interleave(images.shape[2], dim=1)
    x_t, u_t = flow.interpolate(batch.actions, noise, time)
    suffix = model.embed_suffix(x_t)
    valid = torch.cat([image_valid, batch.token_mask, torch.ones(suffix.shape[:2], dtype=torch.bool)], dim=1)
    starts_block = torch.zeros(valid.shape[1], dtype=torch.long)
    starts_block[prefix.shape[1]] = 1
    block = starts_block.cumsum(0)
    mask = (block[None, :] <= block[:, None]) & valid[:, None, :] & valid[:, :, None]
    by = rotation(valid.long().cumsum(1) - 1, model.config.head_dim)
    condition = model.condition(time)
    for language, expert in zip(model.language.layers, model.expert.layers, strict=True):
        prefix, suffix = padded_layer(language, expert, prefix, suffix, condition, by, mask)
    model.language.norm(prefix)
    v_t = model.action_out(model.expert.norm(suffix, condition)[0])
    return (v_t - u_t).square()


def padded_layer(language, expert, prefix, suffix, condition, by, mask):
    """Run one layer of both experts with their joint attention."""
    length = prefix.shape[1]
    normed = language.attention_norm(prefix)
    normed_suffix, gate = expert.attention_norm(suffix, condition)
    joint = []
    for part in ("query", "key", "value"):
        halves = [getattr(language.attention, part)(normed), getattr(expert.attention, part)(normed_suffix)]
        heads = torch.cat(halves, dim=1).unflatten(-1, (-1, language.attention.head_dim))
        joint.append(heads if part == "value" else rotate(heads, by))
    query, key, value = joint
    groups = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(groups, dim=2), value.repeat_interleave(groups, dim=2)
    scores = torch.einsum("bqnh,bknh->bnqk", query * query.shape[-1] ** -0.5, key)
    weights = torch.where(mask[:, None], scores, MASKED_SCORE).softmax(dim=-1)
    seen = torch.einsum("bnqk,bknh->bqnh", weights, value).flatten(2)
    prefix = prefix + language.attention.out(seen[:, :length])
    prefix = prefix + language.mlp(language.mlp_norm(prefix))
    suffix = suffix + gate * expert.attention.out(seen[:, length:])
    normed_suffix, gate = expert.mlp_norm(suffix, condition)
    return prefix, suffix + gate * expert.mlp(normed_suffix)


def gradients(model: Pi05, losses: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad()
    losses.mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


DEAD = {
    "language.norm.scale",
    *(f"language.layers.2.{part}.weight" for part in ("attention.query", "attention.out")),
    *(f"language.layers.2.mlp.{part}.weight" for part in ("gate", "up", "down")),
    "language.layers.2.mlp_norm.scale",
}


@pytest.mark.parametrize("trim", [True, False])
def test_loss_and_gradients_are_those_of_the_padded_path(model, batch, noise, time, trim):
    expected = padded_loss(model, batch, noise, time)
    losses = model.loss(batch.trim(bucket=1) if trim else batch, noise, time)
    assert torch.allclose(losses, expected, rtol=0, atol=TOLERANCE)
    golden, ours = gradients(model, expected), gradients(model, losses)
    assert {name for name, gradient in ours.items() if gradient is None} == DEAD
    for name, gradient in golden.items():
        if name in DEAD:
            assert gradient is None or not gradient.any(), name
            continue
        assert gradient is not None
        assert gradient.any(), name
        assert torch.allclose(ours[name], gradient, rtol=0, atol=TOLERANCE), name


def test_the_reference_would_notice(model, batch, noise, time):
    """A camera or a word more in one of the two paths is far outside the tolerance."""
    expected = padded_loss(model, batch, noise, time)
    for name in ("image_mask", "token_mask"):
        mask = getattr(batch, name).clone()
        mask[0] = True
        changed = Batch(**{**vars(batch), name: mask})
        assert (model.loss(changed, noise, time) - expected)[0].abs().max() > 100 * TOLERANCE
        assert torch.allclose(
            model.loss(changed, noise, time), padded_loss(model, changed, noise, time), atol=TOLERANCE
        )


def test_masked_cameras_are_not_encoded(model, batch, noise, time):
    encoded = []
    model.vision.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
    model.loss(batch, noise, time)
    model.sample_actions(batch, noise)
    assert encoded == [6, 6]  # of 9 images in the batch; once for all Euler steps
    assert int(batch.image_mask.sum()) == 6


def test_prompts_are_padded_to_the_longest(model, config, batch, noise, time):
    lengths = []
    model.language.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    model.loss(batch, noise, time)
    images = 3 * config.patches_per_image
    assert lengths == [images + 16]  # the longest prompt has 11 tokens, rounded up to a multiple of 8; 24 are allowed
    assert batch.tokens.shape[1] == 24


def test_the_last_language_layer_computes_keys_and_values_only(model, batch, noise, time):
    calls: list[str] = []
    for name, module in model.named_modules():
        if name.startswith("language."):
            module.register_forward_hook(lambda module, inputs, output, name=name: calls.append(name))
    model.loss(batch, noise, time)
    model.sample_actions(batch, noise)
    last = {name.removeprefix("language.layers.2.") for name in calls if name.startswith("language.layers.2.")}
    assert last == {"attention_norm", "attention.key", "attention.value"}
    assert "language.norm" not in calls
    assert calls.count("language.layers.2.attention.key") == 2
    assert calls.count("language.layers.1.mlp") == 2


class LargestSquare(TorchDispatchMode):
    """Record every operation, and those that make a tensor with two dimensions of at least `side`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.operations: list[str] = []
        self.squares: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append(str(func))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor) and sum(size >= self.side for size in tensor.shape) >= 2:
                self.squares.append((str(func), tuple(tensor.shape)))
        return result


PREFIX = 3 * 9 + 24
"""Patches of three images, and the longest prompt."""


def long_prompt(batch: Batch) -> Batch:
    mask = batch.token_mask.clone()
    mask[1] = True
    return Batch(**{**vars(batch), "token_mask": mask})


def test_no_score_matrix_and_no_square_mask(model, batch, noise, time):
    """Forward and backward, with a prompt so long that the prefix exceeds every width of this network.

    PyTorch's attention runs as one operation here; what it keeps inside is not counted.
    """
    batch = long_prompt(batch)
    with LargestSquare(side=PREFIX) as seen:
        losses = model.loss(batch, noise, time)
        losses.mean().backward()
    assert seen.squares == []
    attention = [name for name in seen.operations if "scaled_dot_product" in name]
    forward = [name for name in attention if "backward" not in name]
    vision, language, expert = model.config.vision_depth, model.config.depth - 1, model.config.depth
    assert len(forward) == vision + language + expert
    assert len(attention) == 2 * len(forward)
    assert not [name for name in seen.operations if "softmax" in name]


def test_the_watch_would_see_a_score_matrix(model, batch, noise, time):
    with LargestSquare(side=PREFIX) as seen:
        padded_loss(model, long_prompt(batch), noise, time)
    assert {shape[-2:] for _, shape in seen.squares} >= {(PREFIX + 5, PREFIX + 5)}


def test_attention_is_pytorchs_own(model, batch, noise, time, monkeypatch):
    """The tower's attention goes through scaled_dot_product_attention, with a mask of one row per sample."""
    original, masks = F.scaled_dot_product_attention, []

    def recording(query, key, value, attn_mask=None, **options):
        masks.append(None if attn_mask is None else tuple(attn_mask.shape))
        return original(query, key, value, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    model.loss(batch, noise, time)
    prefix = 3 * model.config.patches_per_image + 16
    assert masks[: model.config.vision_depth] == [None] * model.config.vision_depth
    expected = [(3, 1, 1, prefix)] * (model.config.depth - 1)
    expected += [(3, 1, 1, prefix + model.config.horizon)] * model.config.depth
    assert masks[model.config.vision_depth :] == expected
