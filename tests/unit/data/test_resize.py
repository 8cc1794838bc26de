"""Pictures into squares, openpi's way and LeRobot's; against peers in tests/parity."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.data.resize import (
    LEROBOT_RESIZE,
    OLD_LEROBOT_RESIZE,
    OPENPI_RESIZE,
    RESIZES,
    fit_image,
    fit_image_to_bytes,
    interpolate_with_pad,
    resize_with_pad,
    to_signed,
)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_resize_keeps_the_aspect_and_centres() -> None:
    wide = np.full((60, 120, 3), 200, np.uint8)
    result = resize_with_pad(wide, 48)
    assert result.shape == (48, 48, 3)
    assert (result[12:36] == 200).all()
    assert not result[:12].any()
    assert not result[36:].any()
    assert (resize_with_pad(wide.transpose(1, 0, 2), 48) == result.transpose(1, 0, 2)).all()


@pytest.mark.parametrize("resize", RESIZES)
def test_the_right_size_is_left_alone(resize: str) -> None:
    image = picture(48, 48)
    assert fit_image(image, 48, resize) is image


def test_resize_is_antialiased() -> None:
    """Fine stripes become grey; LeRobot's plain bilinear sampling keeps some of them black or white."""
    stripes = np.zeros((98, 98, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = resize_with_pad(stripes, 24)[:, 2:-2]
    assert 100 < shrunk.min() <= shrunk.max() < 155
    plain = interpolate_with_pad(stripes.astype(np.float32) / 255, 24)
    assert plain.max() - plain.min() > 0.4


@pytest.mark.parametrize("resize", RESIZES)
def test_an_extreme_aspect_keeps_a_pixel(resize: str) -> None:
    assert to_signed(fit_image(np.full((1, 1000, 3), 9, np.uint8), 48, resize)).max() == pytest.approx(9 / 127.5 - 1)


def test_lerobots_padding_old_and_new() -> None:
    """An odd pixel goes to the bottom; up to 0.4.4 the padding came out at -3."""
    image = np.full((30, 40, 3), 255, np.uint8)
    new, old = fit_image(image, 25, LEROBOT_RESIZE), fit_image(image, 25, OLD_LEROBOT_RESIZE)
    assert new.dtype == old.dtype == np.float32
    np.testing.assert_allclose(new[3:21], 1, atol=1e-6)
    np.testing.assert_allclose(old[3:21], 1, atol=1e-6)
    for result, value in ((new, -1), (old, -3)):
        assert (result[:3] == value).all()
        assert (result[21:] == value).all()


def test_values_between_bytes_stay() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 255
    fitted = fit_image(image, 4, LEROBOT_RESIZE)
    np.testing.assert_allclose(fitted[:, 0, 0], [1, 0.5, -0.5, -1], atol=1e-6)


@pytest.mark.parametrize("size", [(96, 128), (50, 31), (24, 24)])
def test_the_cache_rounds_by_half_a_step_at_most(size: tuple[int, int]) -> None:
    image = picture(*size)
    exact, rounded = to_signed(fit_image(image, 24, LEROBOT_RESIZE)), fit_image_to_bytes(image, 24, LEROBOT_RESIZE)
    assert rounded.dtype == np.uint8
    assert np.abs(to_signed(rounded) - exact).max() <= 1 / 255 + 1e-6, "0.5 of 255, in [-1, 1]"
    np.testing.assert_array_equal(fit_image_to_bytes(image, 24, OPENPI_RESIZE), resize_with_pad(image, 24))


def test_the_old_padding_has_no_bytes() -> None:
    with pytest.raises(ValueError, match="bytes"):
        fit_image_to_bytes(picture(30, 40), 24, OLD_LEROBOT_RESIZE)
