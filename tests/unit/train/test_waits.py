"""Nothing in a training step waits for the device: no value is read back, no shape follows from values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import CONFIG, SETTINGS, make_batch, make_model, make_state
from waits import Waits

from pi05.model.flow import reduce_loss
from pi05.train.activations import apply_from_outside
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.parameters import freeze
from pi05.train.step import LossSettings, train_step
from pi05.types import Batch


def masked_batch() -> Batch:
    """Return a batch in which samples have different cameras and prompts of different lengths."""
    batch = make_batch(3)
    return replace(
        batch,
        image_mask=torch.tensor([[True, True], [False, True], [True, False]]),
        token_mask=torch.arange(8)[None] < torch.tensor([[8], [3], [5]]),
        trimmed=False,
    ).trim()


@pytest.mark.parametrize(("method", "kind"), [("full", "masked"), ("expert", "lerobot"), ("full", "openpi")])
def test_a_step_waits_for_nothing(method: str, kind: str) -> None:
    model = make_model()
    state = make_state(model, freeze(model, method), ema=True)
    settings = replace(SETTINGS, kind=kind, flow_samples=2)
    batches = [masked_batch(), masked_batch()]
    with Waits() as waits:
        train_step(state, batches, settings)
    assert not waits.found


@pytest.mark.parametrize(("release", "kind"), [(False, "8bit"), (True, "float32"), (True, "4bit")])
def test_the_low_memory_optimizer_waits_for_nothing(release: bool, kind: str) -> None:
    model = make_model()
    schedule = Schedule(peak=1e-2, warmup_steps=0, decay_steps=100, end=1e-2)
    optimizer = LowMemoryOptimizer(freeze(model, "full"), AdamSettings(), schedule, seed=0, state=kind, release=release)
    state = replace(make_state(model, {"one": torch.nn.Parameter(torch.zeros(1))}), optimizer=optimizer)
    train_step(state, [make_batch(2)], SETTINGS)  # the first one may measure
    with Waits() as waits:
        train_step(state, [make_batch(2)], SETTINGS)
    assert not waits.found


def test_recomputed_layers_wait_for_nothing() -> None:
    model = make_model()
    apply_from_outside(model, compile_layers=False, recompute_activations=True)
    with Waits() as waits:
        train_step(make_state(model, freeze(model, "full")), [make_batch(2)], SETTINGS)
    assert not waits.found


def test_the_count_sees_what_waits() -> None:
    """The test above can fail: each of these is a way to wait."""
    values, mask = torch.arange(4.0), torch.tensor([True, False, True, False])
    ways = (
        lambda: values[0].item(),
        lambda: bool(values.sum() > 0),
        lambda: values[mask],
        lambda: mask.nonzero(),
        lambda: values.masked_select(mask),
        lambda: values.tolist(),
        lambda: values.numpy(),
        lambda: values.new_tensor(3.0),
        lambda: float(values.max()),
    )
    for way in ways:
        with Waits() as waits:
            way()
        assert waits.found
    untrimmed = replace(masked_batch(), image_rows=None)
    with Waits() as waits:
        make_model().loss(untrimmed)
    assert waits.found


def test_the_valid_images_are_found_before_the_copy() -> None:
    batch = masked_batch()
    assert batch.image_rows is not None
    assert batch.image_rows.tolist() == [0, 1, 3, 4]
    without = replace(batch, image_rows=None)
    noise, time = torch.randn(3, CONFIG.horizon, CONFIG.action_dim), torch.rand(3)
    losses = [make_model().loss(each, noise=noise, time=time) for each in (batch, without)]
    assert torch.equal(*losses)


def test_all_entries_are_counted_without_a_copy() -> None:
    errors = torch.ones(2, 3, 4)
    total, count = reduce_loss(errors, None, 4, LossSettings(kind="openpi").kind)
    assert (float(total), float(count)) == (24.0, 24.0)
