"""Augmentation: draws depend on the sample alone, their ranges, and what moves or changes and what does not."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch

from pi05.data.augment import BRIGHTNESS, CONTRAST, HUE, MAX_ANGLE, AugmentDraws, augment, draw_at, recolour

WRIST = [False, True, True]
FIELDS = ("crop_y", "crop_x", "angle", "brightness", "contrast", "hue", "apply")


def pictures(batch: int = 4, cameras: int = 3, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, cameras, size, size, 3), generator=generator, dtype=torch.uint8)


def still(batch: int, cameras: int, **changes: torch.Tensor) -> AugmentDraws:
    """Return draws that change nothing but the crop's scale, apart from `changes`."""
    sample, image = torch.zeros(batch), torch.zeros(batch, cameras)
    values = {"crop_y": sample, "crop_x": sample, "angle": sample, "brightness": image, "contrast": image, "hue": image}
    return AugmentDraws(**(values | {"apply": torch.zeros(batch, cameras, dtype=torch.bool)} | changes))


def test_a_draw_depends_on_seed_and_sample_only() -> None:
    together = draw_at(7, np.arange(100, 140), WRIST)
    for name in FIELDS:
        pieces = [getattr(draw_at(7, np.arange(start, start + 8), WRIST), name) for start in range(100, 140, 8)]
        assert torch.equal(torch.cat(pieces), getattr(together, name)), name
        assert not torch.equal(getattr(draw_at(8, np.arange(100, 140), WRIST), name), getattr(together, name)), name


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_draws_fill_their_ranges_evenly(seed: int) -> None:
    draws = draw_at(seed, np.arange(20_000), WRIST)
    for name, limit in (
        ("crop_y", 1.0),
        ("crop_x", 1.0),
        ("angle", MAX_ANGLE),
        ("brightness", BRIGHTNESS),
        ("contrast", CONTRAST),
        ("hue", HUE),
    ):
        values = getattr(draws, name) / limit
        assert values.abs().max() <= 1
        counts = torch.histc(values, 10, -1, 1) / values.numel()
        assert (counts - 0.1).abs().max() < 0.01, name
        if values.ndim == 1:
            correlation = float((values[:-1] * values[1:]).mean() * 3)
            assert abs(correlation) < 0.03, name
    assert abs(float(draws.apply.float().mean()) - 0.5) < 0.01
    mixed = torch.corrcoef(torch.stack([draws.crop_y, draws.crop_x, draws.angle, draws.hue[:, 0], draws.hue[:, 1]]))
    assert (mixed - torch.eye(5)).abs().max() < 0.03


def test_no_number_is_used_twice() -> None:
    """Neighbouring samples must not see one another's draws under another name."""
    draws = draw_at(0, np.arange(200), [False])
    angle = draws.angle / MAX_ANGLE
    everything = torch.stack([draws.crop_y, draws.crop_x, angle, draws.brightness[:, 0] / BRIGHTNESS]).flatten()
    assert len(torch.unique((everything * 1e5).round())) > 0.99 * len(everything)


def test_wrists_share_their_colours_and_the_scene_has_its_own() -> None:
    draws = draw_at(0, np.arange(50), WRIST)
    assert torch.equal(draws.hue[:, 1], draws.hue[:, 2])
    assert not torch.equal(draws.hue[:, 0], draws.hue[:, 1])


def test_wrist_images_do_not_move_and_unapplied_colours_stay() -> None:
    images = pictures()
    draws = draw_at(0, np.arange(4), WRIST)
    never = AugmentDraws(**{**vars(draws), "apply": torch.zeros(4, 3, dtype=torch.bool)})
    result = augment(images, WRIST, never)
    assert torch.equal(result[:, 1:], images[:, 1:].float() / 255 * 2 - 1)
    assert not torch.allclose(result[:, 0], images[:, 0].float() / 255 * 2 - 1, atol=0.1)


def test_each_sample_has_its_own_draw() -> None:
    """A batch equals its samples one by one."""
    images, draws = pictures(), draw_at(0, np.arange(4), WRIST)
    together = augment(images, WRIST, draws)
    assert together.shape == images.shape
    assert together.dtype == torch.float32
    assert float(together.abs().max()) <= 1 + 1e-5
    for i in range(4):
        alone = augment(images[i : i + 1], WRIST, draw_at(0, [i], WRIST))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)


def test_float_images_give_the_same() -> None:
    images, draws = pictures(), draw_at(0, np.arange(4), WRIST)
    as_float = images.float() / 255 * 2 - 1
    torch.testing.assert_close(augment(as_float, WRIST, draws), augment(images, WRIST, draws), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [48, 224])
def test_the_crop_scales_with_the_image(size: int) -> None:
    """At full play to the right, the crop's right edge is that of the image."""
    ramp = torch.linspace(0, 1, size).expand(1, 1, size, size)[..., None].expand(1, 1, size, size, 3) * 2 - 1
    right = augment(ramp, [False], still(1, 1, crop_x=torch.ones(1)))
    middle_row = (right[0, 0, size // 2, :, 0] + 1) / 2 * (size - 1) + 0.5
    expected = (torch.arange(size) + 0.5) * 212 / 224 + size * 12 / 224
    torch.testing.assert_close(middle_row[:-1], expected[:-1], atol=0.01, rtol=0)


def test_rotation_turns_the_picture_and_blackens_corners() -> None:
    white = torch.ones(1, 1, 64, 64, 3)
    turned = augment(white, [False], still(1, 1, angle=torch.full((1,), MAX_ANGLE), crop_x=torch.ones(1)))
    assert float(turned.min()) == -1
    assert float(turned[0, 0, 16:48, 16:48].min()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("hue", [-0.1, 0.0, 0.07])
@pytest.mark.parametrize("brightness", [-0.3, 0.0, 0.2])
@pytest.mark.parametrize("contrast", [-0.4, 0.0, 0.4])
def test_colours_equal_the_definition(hue: float, brightness: float, contrast: float) -> None:
    """Pixel by pixel against Python's own HSV conversion and augmax's formulas written out."""
    generator = np.random.default_rng(0)
    pixels = generator.uniform(0, 1, (4, 4, 3)).astype(np.float32)
    pixels[0] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]]
    expected = np.empty_like(pixels)
    slope = math.tan((contrast + 1) * math.pi / 4)
    for y, x in np.ndindex(4, 4):
        h, s, v = colorsys.rgb_to_hsv(*pixels[y, x].tolist())
        v = v * (1 + brightness) if brightness < 0 else v * (1 - brightness) + brightness
        if contrast:
            knee = (slope - slope**2) / (2 * (1 - slope**2))
            if v < knee:
                v = v / slope
            elif v > 1 - knee:
                v = v / slope + 1 - 1 / slope
            else:
                v = slope * (v - 0.5) + 0.5
        expected[y, x] = colorsys.hsv_to_rgb((h + hue) % 1, s, v)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    ours = recolour(planes, torch.tensor([brightness]), torch.tensor([contrast]), torch.tensor([hue]))
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), expected, atol=2e-6)
