"""Is the base's network alive? A few real frames through it: the loss, the scale of its tokens, what pictures do.

Weights that were shuffled, drawn at random, scaled twice or left out load without a word: names, shapes and types are
right. These measures tell. `pi05 check` takes them of a base, training at its step 0. Leaves out the statistics and
settings of a base. Measured values: ../shared/spec/killers_measured.md and docs/check.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pi05.finding import Finding, error, ok
from pi05.model.flow import interpolate, reduce_loss, sample_time
from pi05.model.pi05 import Pi05
from pi05.types import Batch

WORST_LOSS = 1.4
"""Loss over that of answering zero. Sound bases have 0.73 to 1.17, shuffled and random weights 1.7 to 3.0."""
LARGEST_ROW = 0.4
"""Root mean square of the embedding of the prompts' tokens. The packaged base has 0.09, fresh weights of full size
0.022; weights that hold the scale already are sqrt(width) times as large: 1 and more."""
SMALLEST_TOKEN = 0.25
"""Root mean square of the prompt's tokens behind the scale: about 1 in the packaged base and in fresh weights; 0.02 to
0.1 where the embedding was divided by the scale."""
NO_EFFECT = 1e-3
"""A change of the actions, in normalised units, or of tokens, as a share of their size, that counts as none."""


@dataclass(frozen=True, kw_only=True)
class BaseMeasures:
    """What a network does with a few real frames before it is trained on them."""

    samples: int
    loss: float
    """Flow-matching loss over the robot's own dimensions and the steps inside the episodes."""
    loss_of_zero: float
    """The loss of a network that answers zero: 1 + the mean square of the normalised actions."""
    embedding_rms: float
    """Of the embedding rows of the tokens in these prompts, before they are scaled by sqrt(width)."""
    prompt_token_rms: float
    """Of the same, scaled: what enters the language model."""
    image_token_rms: float
    image_token_change: float
    """How far the image tokens move when each picture becomes its negative, as a share of their size."""
    picture_effect: float
    """How far the first step's actions move, in normalised units, when each picture becomes its negative."""
    prompt_effect: float
    """The same when each prompt's tokens are read backwards."""

    @property
    def loss_ratio(self) -> float:
        """The loss over that of answering zero."""
        return self.loss / self.loss_of_zero


@torch.no_grad()
def measure_base(
    model: Pi05, batches: Sequence[Batch], *, action_dims: int | None = None, seed: int = 0
) -> BaseMeasures:
    """Run a few batches of real frames with actions through a network: three passes through vision and language each.

    `action_dims` are the robot's own dimensions; without it those count that are not zero in all batches. The batches
    lie on the network's device. The network is left as it was, gradients and random numbers of the caller included.
    """
    if not batches:
        raise ValueError("the measures need at least one batch")
    dims = action_dims or _used_dims(batches)
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(8, dtype=torch.float64)
    for batch in batches:
        sums += _measure(model, batch, dims, generator).double().cpu()
    loss, zero, entries, token_squares, image_squares, image_changes, picture, prompt = sums.tolist()
    count, width = len(batches), model.config.language_width
    return BaseMeasures(
        samples=sum(len(batch.tokens) for batch in batches),
        loss=loss / entries,
        loss_of_zero=1 + zero / entries,
        embedding_rms=math.sqrt(token_squares / count / width),
        prompt_token_rms=math.sqrt(token_squares / count),
        image_token_rms=math.sqrt(image_squares / count),
        image_token_change=math.sqrt(image_changes / max(image_squares, 1e-30)),
        picture_effect=math.sqrt(picture / count),
        prompt_effect=math.sqrt(prompt / count),
    )


def judge_base(measures: BaseMeasures) -> Iterator[Finding]:
    """Yield what is wrong with a network, or that nothing is."""
    found = [*_judge_loss(measures), *_judge_tokens(measures), *_judge_effects(measures)]
    yield from found
    if not found:
        yield ok(
            "base.network",
            f"on {measures.samples} frames: loss {measures.loss:.2f}, answering zero {measures.loss_of_zero:.2f}; "
            f"pictures move the actions by {measures.picture_effect:.3f}, the prompt by {measures.prompt_effect:.3f}",
        )


def _judge_loss(measures: BaseMeasures) -> Iterator[Finding]:
    if not math.isfinite(measures.loss):
        yield error(
            "base.not_finite",
            f"the base's loss on {measures.samples} frames of this data is {measures.loss}",
            "cannot begin: the weights, or the normalised numbers, are broken",
            "take an untouched copy of the base, and look at the findings about numbers",
            {"loss": str(measures.loss)},
        )
    elif measures.loss_ratio > WORST_LOSS:
        yield error(
            "base.loss",
            f"the base's loss on this data is {measures.loss:.2f}, {measures.loss_ratio:.2f} times that of answering "
            f"zero ({measures.loss_of_zero:.2f}); bases that fit have 0.7 to 1.2 times",
            "starts from worse than nothing and looks normal: the weights are shuffled, random or of another network, "
            "or the actions are scaled wrongly",
            "take an untouched copy of the base (pi05 inspect tells its hash); --from_scratch trains without one",
            {"loss": measures.loss, "loss_of_zero": measures.loss_of_zero, "ratio": measures.loss_ratio},
        )


def _judge_tokens(measures: BaseMeasures) -> Iterator[Finding]:
    numbers = {
        "embedding_rms": measures.embedding_rms,
        "prompt_token_rms": measures.prompt_token_rms,
        "image_token_rms": measures.image_token_rms,
    }
    beside = f"the prompt's tokens have {measures.prompt_token_rms:.3g}, the pictures' {measures.image_token_rms:.3g}"
    if measures.embedding_rms > LARGEST_ROW:
        yield error(
            "base.embedding_scale",
            f"the token embedding has a root mean square of {measures.embedding_rms:.3g}, and it is scaled by "
            f"sqrt(width) again: {beside}",
            "hardly sees: the prompt drowns the pictures, as the file holds an embedding that was scaled already",
            "take the base as it was published; transformers and vLLM moved this factor between versions",
            numbers,
        )
    elif measures.prompt_token_rms < SMALLEST_TOKEN:
        yield error(
            "base.embedding_scale",
            f"the token embedding has a root mean square of {measures.embedding_rms:.3g}: {beside}",
            "hardly hears the prompt beside the pictures: the embedding was divided by its scale, or is empty",
            "take the base as it was published",
            numbers,
        )


def _judge_effects(measures: BaseMeasures) -> Iterator[Finding]:
    if measures.image_token_change < NO_EFFECT:
        yield error(
            "base.vision_dead",
            "the vision tower gives the same tokens for a picture and for its negative "
            f"(they differ by {measures.image_token_change:.1e} of their size)",
            "stays blind: training cannot mend a tower of zeros",
            "take an untouched copy of the base; look for vision weights left out in what converted it",
            {"image_token_change": measures.image_token_change},
        )
    elif measures.picture_effect < NO_EFFECT:
        yield error(
            "base.pictures_without_effect",
            "the base's actions are the same for a picture and for its negative "
            f"(they move by {measures.picture_effect:.1e} in normalised units)",
            "starts blind: nothing leads from the pictures to the actions",
            "take an untouched copy of the base; --from_scratch means to start like this",
            {"picture_effect": measures.picture_effect},
        )
    if measures.prompt_effect < NO_EFFECT:
        yield error(
            "base.prompt_without_effect",
            "the base's actions are the same when the prompt is read backwards "
            f"(they move by {measures.prompt_effect:.1e} in normalised units)",
            "starts deaf: nothing leads from task and state to the actions",
            "take an untouched copy of the base; --from_scratch means to start like this",
            {"prompt_effect": measures.prompt_effect},
        )


def _used_dims(batches: Sequence[Batch]) -> int:
    """Return how many leading action dimensions are not zero in all batches, at least 1."""
    used = torch.stack([_actions(batch).ne(0).flatten(0, 1).any(dim=0) for batch in batches]).any(dim=0)
    places = used.nonzero()
    return int(places.max()) + 1 if len(places) else 1


def _actions(batch: Batch) -> Float[Tensor, "B A X"]:
    if batch.actions is None or batch.prefix is not None:
        raise ValueError("the measures need batches with actions and pictures")
    return batch.actions


def _measure(model: Pi05, batch: Batch, dims: int, generator: torch.Generator) -> Float[Tensor, " 8"]:
    """Return a batch's sums of loss and squared actions with the count of entries, then six mean squares."""
    batch = batch.trim()
    actions = _actions(batch).float()
    device = actions.device
    noise = torch.randn(actions.shape, generator=generator).to(device)
    time = sample_time(len(actions), generator, torch.device("cpu")).to(device)
    x_t, u_t = interpolate(actions, noise, time)
    tokens, valid = model.embed_prefix(batch)
    cache = model.prefill(tokens, valid)
    errors = (model.velocity(x_t, time, cache, valid) - u_t).square()
    loss, entries = reduce_loss(errors, batch.action_mask, dims, "masked")
    start = torch.ones_like(time)
    first = model.velocity(noise, start, cache, valid)[..., :dims]

    negative, backwards = replace(batch, images=_negative(batch)), replace(batch, tokens=_reversed(batch))
    other_tokens, _ = model.embed_prefix(negative)
    other = model.velocity(noise, start, model.prefill(other_tokens, valid), valid)[..., :dims]
    read, _ = model.embed_prefix(backwards)
    reread = model.velocity(noise, start, model.prefill(read, valid), valid)[..., :dims]

    images = tokens.shape[1] - batch.tokens.shape[1]
    kept = valid if valid is not None else torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
    values = tokens.float()
    moved = (other_tokens.float() - values)[:, :images][kept[:, :images]]
    return torch.stack(
        [
            loss,
            reduce_loss(actions.square(), batch.action_mask, dims, "masked")[0],
            entries,
            values[:, images:][kept[:, images:]].square().mean(),
            values[:, :images][kept[:, :images]].square().mean(),
            moved.square().mean(),
            (other - first).square().mean(),
            (reread - first).square().mean(),
        ]
    )


def _negative(batch: Batch) -> Tensor:
    images = batch.images
    return 255 - images if images.dtype == torch.uint8 else -images


def _reversed(batch: Batch) -> Int64[Tensor, "B T"]:
    """Return each prompt's tokens in reverse order, the padding behind them where it was."""
    if batch.token_mask is None:
        return batch.tokens.flip(1)
    lengths = batch.token_mask.sum(dim=1, keepdim=True)
    places = torch.arange(batch.tokens.shape[1], device=lengths.device)
    return batch.tokens.gather(1, torch.where(places < lengths, lengths - 1 - places, places))
