from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def images(config) -> torch.Tensor:
    side = config.image_size
    return torch.randint(0, 256, (4, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_uint8_means_minus_one_to_one(model, images):
    as_float = images.float() / 255 * 2 - 1
    assert float(as_float.min()) >= -1
    assert torch.equal(model.vision(images), model.vision(as_float))


def test_patches_are_a_strided_convolution(model, config, images):
    """Rows of patches from top to bottom, each from left to right, as in the peers."""
    pixels = images.float() / 255 * 2 - 1
    side = config.patch_size
    kernel = model.vision.patch_embedding.weight.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2)
    convolved = F.conv2d(pixels.permute(0, 3, 1, 2), kernel, model.vision.patch_embedding.bias, stride=side)
    ours = model.vision.patch_embedding(model.vision._patches(pixels))
    assert torch.allclose(ours, convolved.flatten(2).transpose(1, 2), atol=1e-5)


def test_images_do_not_see_each_other(model, images):
    together = model.vision(images)
    changed = images.clone()
    changed[1] = 255 - changed[1]
    assert torch.equal(model.vision(changed)[[0, 2, 3]], together[[0, 2, 3]])
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(model.vision(images[order]), together[order], atol=1e-6)


def test_patches_see_each_other(model, images):
    changed = images.clone()
    changed[0, -1, -1] = 255 - changed[0, -1, -1]
    with torch.no_grad():
        difference = (model.vision(changed) - model.vision(images))[0].abs().amax(dim=-1)
    assert float(difference.min()) > 0


def test_bfloat16_output(config, model, images):
    model.vision.compute_dtype = torch.bfloat16
    tokens = model.vision(images)
    assert tokens.dtype == torch.bfloat16
    model.vision.compute_dtype = torch.float32
    assert torch.allclose(tokens.float(), model.vision(images), atol=0.1)


def test_sizes(config, model, images):
    assert model.vision(images).shape == (4, config.patches_per_image, config.language_width)
    assert replace(config, image_size=24).patches_per_image == 36


def test_no_image_at_all(model, config):
    """A batch in which all cameras are masked still has its prompt."""
    side = config.image_size
    tokens = model.vision(torch.zeros(0, side, side, 3, dtype=torch.uint8))
    assert tokens.shape == (0, config.patches_per_image, config.language_width)
