from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pi05.model import flow
from pi05.model.gemma import modulations_at
from pi05.model.pi05 import Pi05
from pi05.types import Batch

ROUNDING = 2e-6
"""Absolute; the same sums over other shapes."""


def pick(batch: Batch, rows: Tensor) -> Batch:
    fields = {name: getattr(batch, name) for name in ("images", "image_mask", "tokens", "token_mask", "actions")}
    return Batch(**{name: value[rows] for name, value in fields.items()})


def test_permuting_the_batch_permutes_the_loss(model, batch, noise, time):
    losses = model.loss(batch, noise, time)
    order = torch.tensor([2, 0, 1])
    permuted = model.loss(pick(batch, order), noise[order], time[order])
    assert torch.allclose(permuted, losses[order], atol=ROUNDING)
    assert not torch.allclose(permuted, losses, atol=1e-2)


def test_samples_do_not_see_each_other(model, batch, noise, time):
    losses = model.loss(batch, noise, time)
    for row in range(3):
        rows = torch.tensor([row])
        assert torch.allclose(model.loss(pick(batch, rows), noise[rows], time[rows]), losses[rows], atol=1e-5)


def test_a_changed_suffix_leaves_the_prefix_bit_equal(model, batch, noise, time):
    with torch.no_grad():
        tokens, valid = model.embed_prefix(batch)
        cache = model.prefill(tokens, valid)
        before = [(key.clone(), value.clone()) for key, value in cache]
        first = model.velocity(noise, time, cache, valid)
        second = model.velocity(noise + 1, time * 0.5, cache, valid)
        again = model.velocity(noise, time, cache, valid)
    for (key, value), (old_key, old_value) in zip(cache, before, strict=True):
        assert torch.equal(key, old_key)
        assert torch.equal(value, old_value)
    assert torch.equal(first, again)
    assert not torch.allclose(first, second, atol=1e-3)


def test_the_actions_see_each_other(model, batch, noise, time):
    """Bidirectional attention in the suffix: the last action changes the velocity of the first."""
    with torch.no_grad():
        tokens, valid = model.embed_prefix(batch)
        cache = model.prefill(tokens, valid)
        first = model.velocity(noise, time, cache, valid)
        changed = noise.clone()
        changed[:, -1] += 1
        second = model.velocity(changed, time, cache, valid)
    assert float((first - second)[:, 0].abs().amax(dim=-1).min()) > 1e-4


def test_contents_of_a_masked_camera_do_not_matter(model, batch, noise, time):
    images = batch.images.clone()
    images[~batch.image_mask] = 255 - images[~batch.image_mask]
    losses = model.loss(batch, noise, time)
    assert torch.equal(model.loss(replace(batch, images=images), noise, time), losses)
    images[2, 2] = 255 - images[2, 2]
    assert not torch.allclose(model.loss(replace(batch, images=images), noise, time), losses, atol=1e-3)


def test_contents_of_padding_do_not_matter(model, batch, noise, time):
    losses = model.loss(batch, noise, time)
    tokens = torch.where(batch.token_mask, batch.tokens, 0)
    assert torch.equal(model.loss(replace(batch, tokens=tokens), noise, time), losses)
    assert not torch.allclose(model.loss(replace(batch, tokens=tokens * 0), noise, time), losses, atol=1e-3)


def test_amount_of_padding_does_not_matter(model, batch, noise, time):
    """Without trimming, with it, and padded once more."""
    losses = model.loss(batch, noise, time)
    untrimmed = replace(batch, trimmed=True)
    assert torch.allclose(model.loss(untrimmed, noise, time), losses, atol=ROUNDING)
    longer = replace(
        untrimmed,
        tokens=torch.nn.functional.pad(batch.tokens, (0, 8)),
        token_mask=torch.nn.functional.pad(batch.token_mask, (0, 8)),
    )
    assert torch.allclose(model.loss(longer, noise, time), losses, atol=ROUNDING)


def test_an_empty_camera_is_as_good_as_none(model, batch, noise, time):
    masked = replace(batch, image_mask=torch.tensor([[True, True, False]]).expand(3, 3))
    absent = replace(batch, images=batch.images[:, :2], image_mask=None)
    assert torch.allclose(model.loss(masked, noise, time), model.loss(absent, noise, time), atol=ROUNDING)


def test_no_camera_at_all(model, batch, noise, time):
    blind = replace(batch, image_mask=torch.zeros(3, 3, dtype=torch.bool))
    assert torch.isfinite(model.loss(blind, noise, time)).all()


def test_loss_is_the_squared_distance_to_the_target(model, batch, noise, time):
    with torch.no_grad():
        tokens, valid = model.embed_prefix(batch)
        x_t = time[:, None, None] * noise + (1 - time[:, None, None]) * batch.actions
        v_t = model.velocity(x_t, time, model.prefill(tokens, valid), valid)
        assert torch.allclose(model.loss(batch, noise, time), (v_t - (noise - batch.actions)) ** 2, atol=1e-5)


def test_loss_needs_actions(model, batch):
    with pytest.raises(ValueError, match="actions"):
        model.loss(replace(batch, actions=None))


def test_draws_come_from_the_generator(model, batch):
    first = model.loss(batch, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    assert torch.equal(first, model.loss(batch, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(first, model.loss(batch, generator=torch.Generator().manual_seed(4)))


def test_several_draws_share_the_prefix(model, batch, noise, time):
    """K draws give the mean of K separate losses, from one pass over the prefix."""
    noises, times = torch.stack([noise, -noise], dim=1), torch.stack([time, 1 - time], dim=1)
    prefills = []
    model.language.register_forward_hook(lambda module, inputs, output: prefills.append(len(inputs[0])))
    together = model.loss(batch, noises.flatten(0, 1), times.flatten(), flow_samples=2)
    assert prefills == [3]
    apart = [model.loss(batch, noises[:, k], times[:, k]) for k in range(2)]
    assert torch.allclose(together, (apart[0] + apart[1]) / 2, atol=ROUNDING)


def test_gradients_of_several_draws_are_the_mean_of_those_of_separate_passes(model, batch, noise, time):
    noises, times = torch.stack([noise, -noise, 2 * noise], dim=1), torch.stack([time, 1 - time, time / 2], dim=1)

    def gradients(*losses: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        for loss in losses:
            loss.mean().div(len(losses)).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    together = gradients(model.loss(batch, noises.flatten(0, 1), times.flatten(), flow_samples=3))
    apart = gradients(*(model.loss(batch, noises[:, k], times[:, k]) for k in range(3)))
    assert together.keys() == apart.keys()
    for name, value in together.items():
        assert (value - apart[name]).abs().max() <= 1e-5 * apart[name].abs().max() + 1e-9, name


def test_a_prefix_that_was_computed_before_gives_the_same_loss(model, batch, noise, time):
    """Prompts of different lengths, all cameras there."""
    batch = replace(batch, image_mask=None).trim()
    cache, _ = model.read_prefix(batch)
    kept = torch.stack([torch.stack(pair, dim=1) for pair in cache], dim=1).detach()
    brought = replace(batch, prefix=kept, images=batch.images[:, :0])
    assert torch.equal(model.loss(brought, noise, time), model.loss(batch, noise, time))


def test_no_mask_is_a_mask_of_ones(model, batch, noise, time):
    """A sample without padding gives one loss alone, where there is no mask, and beside a shorter one."""
    longest = torch.tensor([24, 11, 7])[:, None]
    masked = replace(batch, image_mask=None, token_mask=torch.arange(24)[None] < longest)
    first = {name: getattr(masked, name)[:1] for name in ("images", "tokens", "actions", "action_mask")}
    alone = replace(masked, token_mask=None, **first)
    assert alone.trim().token_mask is None
    assert masked.trim().token_mask is not None
    together = model.loss(masked, noise, time)[:1]
    assert torch.allclose(model.loss(alone, noise[:1], time[:1]), together, atol=ROUNDING)


class ToyFlow(Pi05):
    """The network with a velocity that is known: v = 2·x, and a diary of the times at which it was asked."""

    asked: list[float]

    def velocity(self, x_t, time, cache, valid):
        self.asked.append(float(time[0]))
        assert torch.equal(time, time[:1].expand(len(time)))
        return 2 * x_t


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_euler_grid(config, batch, noise, steps):
    """From t = 1 in steps of -1/N to 1/N; each step subtracts v/N."""
    model = ToyFlow(config)
    model.initialize(torch.Generator().manual_seed(0))
    model.asked = []
    actions = model.sample_actions(batch, noise, num_steps=steps, steer=lambda velocity, *at: velocity(*at))
    assert model.asked == pytest.approx([1 - step / steps for step in range(steps)], abs=1e-6)
    assert torch.allclose(actions, noise * (1 - 2 / steps) ** steps, atol=1e-5)


def test_sampling_does_not_touch_the_noise(model, batch, noise):
    before = noise.clone()
    first = model.sample_actions(batch, noise)
    assert torch.equal(noise, before)
    assert torch.equal(first, model.sample_actions(batch, noise))
    assert not first.requires_grad


def test_sampled_chunk_has_the_configured_shape(model, config, batch):
    actions = model.sample_actions(replace(batch, actions=None), generator=torch.Generator().manual_seed(0))
    assert actions.shape == (3, config.horizon, config.action_dim)
    longer = model.sample_actions(batch, torch.randn(3, config.horizon + 4, config.action_dim))
    assert longer.shape == (3, config.horizon + 4, config.action_dim)


def test_fresh_weights_start_with_closed_branches(config, batch, noise, time):
    """As in openpi: modulation zero, so that neither time nor prefix reaches the velocity yet."""
    model = Pi05(config)
    model.initialize(torch.Generator().manual_seed(0))
    other = Pi05(config)
    other.initialize(torch.Generator().manual_seed(0))
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
    with torch.no_grad():
        tokens, valid = model.embed_prefix(batch)
        cache = model.prefill(tokens, valid)
        assert torch.isfinite(tokens).all()
        early, late = (model.velocity(noise, at, cache, valid) for at in (time, time * 0.1))
        assert torch.equal(early, late)
        assert torch.equal(early, model.velocity(noise, time, [(key * 0, value * 0) for key, value in cache], valid))
        assert float(early.std()) > 0.1


def test_compute_dtype_can_change(model, batch, noise, time):
    exact = model.loss(batch, noise, time).detach().mean()
    model.compute_dtype = torch.bfloat16
    assert model.compute_dtype == torch.bfloat16
    rough = model.loss(batch, noise, time).detach().mean()
    assert rough.dtype == torch.float32
    assert float(rough) != float(exact)
    assert float(rough) == pytest.approx(float(exact), rel=2e-2)


def test_a_time_for_every_step_is_the_time_of_the_sample(model, batch, noise, time):
    """The same times, told per step: the norms' modulation is computed for each step then."""
    with torch.no_grad():
        cache, valid = model.read_prefix(batch)
        together = model.velocity(noise, time, cache, valid)
        apart = model.velocity(noise, time[:, None].expand(noise.shape[:2]), cache, valid)
    assert torch.allclose(apart, together, atol=1e-5)


def test_the_loss_without_delay_is_the_loss(model, batch, noise, time):
    none = torch.zeros(3, dtype=torch.long)
    assert torch.allclose(model.loss(batch, noise, time, delay=none), model.loss(batch, noise, time), atol=1e-5)


def test_committed_actions_are_given_clean(model, batch, noise, time):
    """The errors of the rest depend on the committed actions, and not on the noise that was drawn in their place."""
    delay = torch.tensor([2, 1, 0])
    losses = model.loss(batch, noise, time, delay=delay)
    other = noise.clone()
    other[0, :2] += 1.0
    assert torch.allclose(model.loss(batch, other, time, delay=delay)[0, 2:], losses[0, 2:], atol=1e-5)
    assert not torch.allclose(model.loss(batch, other, time)[0, 2:], model.loss(batch, noise, time)[0, 2:], atol=1e-3)
    actions = batch.actions.clone()
    actions[0, :2] += 1.0
    moved = model.loss(replace(batch, actions=actions), noise, time, delay=delay)
    assert not torch.allclose(moved[0, 2:], losses[0, 2:], atol=1e-3)
    assert torch.allclose(moved[1:], losses[1:], atol=1e-5)


def test_flow_samples_share_a_delay(model, batch):
    noises, times = torch.randn(3, 2, *batch.actions.shape[1:]), torch.rand(3, 2)
    delay = torch.tensor([2, 0, 1])
    together = model.loss(batch, noises.flatten(0, 1), times.flatten(), flow_samples=2, delay=delay)
    apart = [model.loss(batch, noises[:, k], times[:, k], delay=delay) for k in range(2)]
    assert torch.allclose(together, torch.stack(apart).mean(dim=0), atol=1e-5)


def test_sampling_continues_committed_actions(model, config, batch, noise):
    delay = torch.tensor([2, 0, config.horizon])
    given = torch.randn(3, config.horizon, config.action_dim)
    chunk = model.sample_actions(batch, noise, committed=(given, delay))
    assert torch.equal(chunk[0, :2], given[0, :2])
    assert torch.equal(chunk[2], given[2])
    free = model.sample_actions(batch, noise)
    assert torch.allclose(chunk[1], free[1], atol=1e-5)
    assert not torch.allclose(chunk[0, 2:], free[0, 2:], atol=1e-3)
    other = noise.clone()
    other[0, :2] += 1.0
    assert torch.allclose(model.sample_actions(batch, other, committed=(given, delay)), chunk, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_known_flow_times_are_those_of_the_steps(model, batch, noise, count):
    """Bit for bit, and what they do to the norms is taken from the right row."""
    times: list[float] = []

    def steer(velocity, x_t, time):
        times.append(float(time[0]))
        return velocity(x_t, time)

    steered = model.sample_actions(batch, noise, num_steps=count, steer=steer)
    assert flow.step_times(count).tolist() == times
    assert torch.allclose(model.sample_actions(batch, noise, num_steps=count), steered, atol=1e-5)
    known = model.expert.modulate(model.condition(flow.step_times(count)), torch.float32)
    last = model.expert.modulate(model.condition(torch.tensor(times[-1:])), torch.float32)
    assert torch.allclose(modulations_at(count - 1, known).norm.shift, last.norm.shift, atol=1e-6)


def test_what_steers_stands_in_every_step(model, batch, noise):
    """Handed through, the actions are those without, whose modulations are computed ahead; it is told every time."""
    times: list[float] = []

    def steer(velocity, x_t, time):
        times.append(float(time[0]))
        return velocity(x_t, time)

    assert torch.allclose(
        model.sample_actions(batch, noise, steer=steer), model.sample_actions(batch, noise), atol=1e-5
    )
    assert times == pytest.approx([1 - step / 10 for step in range(10)], abs=1e-6)
    still = model.sample_actions(batch, noise, steer=lambda velocity, x_t, time: torch.zeros_like(x_t))
    assert torch.equal(still, noise)


def test_sampling_reads_the_prefix_once(model, batch, noise):
    """Whatever the number of denoising steps: pictures and language once, the expert in each."""
    calls: list[str] = []
    for name in ("vision", "language", "expert"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model.sample_actions(batch, noise, num_steps=7)
    assert [calls.count(name) for name in ("vision", "language", "expert")] == [1, 1, 7]
