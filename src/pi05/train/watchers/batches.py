"""What is watched of the batches that are trained on: values out of range, one dimension that makes the loss, spikes.

Sums stay on the device until a record is due; nothing here waits for a GPU between records. Leaves out losses that are
not finite, which end the run (`train/faults.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pi05.data.transforms import NormalizationMode
from pi05.finding import Finding, warning
from pi05.train.data import TrainingData
from pi05.train.faults import BatchOrigin
from pi05.train.parallel.ranks import Ranks
from pi05.train.step import StepResult
from pi05.types import Batch

REACH: Mapping[NormalizationMode, float] = {"QUANTILES": 1.0, "MEAN_STD": 3.0, "IDENTITY": 1.0}
"""How far normalised values go: by quantiles 2 % lie outside, three standard deviations leave 0.3 % of a bell curve."""
MOST_OUTSIDE = 0.1
"""Share of a dimension's values outside from which on it is told; sound sets have up to 0.023."""
MOST_OF_LOSS = 0.5
"""Share of the loss in one dimension from which on it is told, where there are four dimensions or more."""
ENOUGH_SAMPLES = 256
"""Samples before shares are judged."""
SPIKE, SPIKE_DEVIATIONS = 3.0, 8.0
"""A spike is at least so many medians of the losses before it, and so many of their deviations above that median."""
WINDOW, ENOUGH_STEPS = 200, 50
"""Losses that a spike is compared with, and how many there must be."""
SHOWN = 4
AS_USUAL = 1.5
"""Medians of the losses up to which the mean of a part of a batch is nothing special."""


@dataclass(frozen=True, kw_only=True)
class BatchMeasures:
    """What the batches since the last record were like, over all processes."""

    samples: int
    action_outside: Float[np.ndarray, " n"]
    """Share of the values that lie outside of `REACH`, per action dimension."""
    state_outside: Float[np.ndarray, " S"] | None
    loss_share: Float[np.ndarray, " n"]
    losses: list[float]


class BatchWatch:
    """Collects batches and their losses, and tells about them when a record is due."""

    def __init__(self, data: TrainingData, device: torch.device, ranks: Ranks) -> None:
        processor = data.processor
        self._data, self._ranks = data, ranks
        self._dims = processor.robot_action_dim
        self._reach = REACH[processor.normalization["ACTION"]]
        self._sums = torch.zeros(2 * self._dims + 1, device=device)
        """Values outside per dimension, loss per dimension, action steps."""
        self._samples = 0
        self._steps: list[tuple[StepResult, BatchOrigin]] = []
        self._frames: list[int] = []
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def add(self, result: StepResult, batches: Sequence[Batch], origin: BatchOrigin) -> None:
        """Take in one step. Waits for no device."""
        n = self._dims
        for batch in batches:
            if batch.actions is not None:
                outside, steps = count_outside(batch.actions[..., :n], batch.action_mask, self._reach)
                self._sums[:n] += outside
                self._sums[-1] += steps
        self._sums[n:-1] += result.dimension_losses[:n]
        self._samples += result.samples
        self._steps.append((result, origin))
        self._frames += origin.frames

    def read(self) -> tuple[BatchMeasures, list[Finding]]:
        """Return the measures since they were judged last, and what to say; all processes call it together."""
        n = self._dims
        sums = self._ranks.sum(self._sums).double().cpu().numpy()
        losses = torch.stack([result.loss for result, _ in self._steps]).tolist() if self._steps else []
        total = sums[n:-1].sum()
        measures = BatchMeasures(
            samples=self._samples,
            action_outside=sums[:n] / max(sums[-1], 1.0),
            state_outside=self._state_outside(),
            loss_share=sums[n:-1] / total if np.isfinite(total) and total > 0 else np.zeros(n),
            losses=losses,
        )
        found = [*self._spikes(losses)]
        if self._samples >= ENOUGH_SAMPLES:
            found += judge_range(measures, self._data)
            found += judge_loss_shares(measures.loss_share, self._data.dataset.action_names)
            self._sums.zero_()
            self._samples, self._frames = 0, []
        self._steps = []
        return measures, found

    def _state_outside(self) -> Float[np.ndarray, " S"] | None:
        """Return the share of the states outside, where the prompt has the state; of this process's samples."""
        processor = self._data.processor
        if processor.prompt_format == "none" or not self._frames:
            return None
        states = processor.state_normalizer.normalize(self._data.dataset.states()[self._frames])
        return (np.abs(states) > REACH[processor.normalization["STATE"]]).mean(axis=0)

    def _spikes(self, losses: Sequence[float]) -> list[Finding]:
        """Return the largest spike since the last record, with the samples that make it."""
        found: tuple[float, int, float] | None = None
        for place, loss in enumerate(losses):
            usual = usual_loss(self._recent)
            if usual is not None and is_spike(loss, *usual) and (found is None or loss > found[0]):
                found = (loss, place, usual[0])
            self._recent.append(loss)
        if found is None:
            return []
        loss, place, usual_value = found
        result, origin = self._steps[place]
        own = list(zip(result.sample_losses.tolist(), origin.frames, origin.episodes, strict=False))
        samples = [sample for share in self._ranks.gather(own) for sample in share]
        return [tell_spike(result.step, loss, usual_value, samples)]


def count_outside(
    actions: Float[Tensor, "B A n"], valid: Bool[Tensor, "B A"] | None, reach: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, ""]]:
    """Return how many values of each dimension lie outside, and how many action steps were counted."""
    outside = actions.abs() > reach
    if valid is None:
        return outside.sum(dim=(0, 1)).float(), outside.new_full((), outside[..., 0].numel(), dtype=torch.float32)
    return (outside & valid[..., None]).sum(dim=(0, 1)).float(), valid.sum().float()


def usual_loss(recent: Sequence[float]) -> tuple[float, float] | None:
    """Return median and deviation of the losses before, or None where they are too few."""
    if len(recent) < ENOUGH_STEPS:
        return None
    median = float(np.median(recent))
    return median, 1.4826 * float(np.median(np.abs(np.array(recent) - median)))


def is_spike(loss: float, median: float, deviation: float) -> bool:
    """Tell a spike from the usual coming and going."""
    return loss > SPIKE * median and loss > median + SPIKE_DEVIATIONS * deviation


def tell_spike(step: int, loss: float, usual: float, samples: Sequence[tuple[float, int, int]]) -> Finding:
    """Return the finding of a spike; `samples` are loss, frame and episode of all samples of the step.

    Theirs are sums over their entries, in whatever unit. Named are those without which the others are as usual, and no
    sound ones beside them.
    """
    mean = sum(value for value, _, _ in samples) / max(len(samples), 1)
    guilty = _guilty(usual * mean / loss, sorted(samples, reverse=True))
    text = f"the loss jumped to {loss:.3g} at step {step:,}, {loss / usual:.1f} times the usual; "
    numbers = {"step": step, "loss": loss, "usual": usual}
    if not guilty:
        return warning(
            "loss.spike",
            f"{text}no few of its {len(samples)} samples make it",
            "the batch was hard as a whole, or the weights have moved too far",
            "if it goes on: a lower --policy.optimizer_lr, or a longer --policy.scheduler_warmup_steps",
            {**numbers, "episodes": []},
        )
    episodes = list(dict.fromkeys(episode for _, _, episode in guilty))
    share = sum(value for value, _, _ in guilty) / max(sum(value for value, _, _ in samples), 1e-30)
    frames = ", ".join(f"frame {frame} (episode {episode})" for _, frame, episode in guilty)
    which = "this frame; if it is" if len(guilty) == 1 else "these frames; if they are"
    return warning(
        "loss.spike",
        f"{text}{share:.0%} of it {'is' if len(guilty) == 1 else 'are'} {frames}",
        "a broken frame moves all weights at once; many of them unlearn what was learnt",
        f"look at {which} broken, --dataset.exclude_episodes '{episodes}'",
        {**numbers, "episodes": episodes},
    )


def _guilty(usual: float, ranked: Sequence[tuple[float, int, int]]) -> Sequence[tuple[float, int, int]]:
    """Return the fewest samples, greatest first, without which the rest is as usual; none where these are many."""
    for count in range(1, min(SHOWN, len(ranked)) + 1):
        rest = [value for value, _, _ in ranked[count:]]
        if sum(rest) <= AS_USUAL * usual * len(rest) and (rest or count == 1):
            return ranked[:count]
    return []


def judge_range(measures: BatchMeasures, data: TrainingData) -> Iterator[Finding]:
    """Yield what to say of dimensions that do not fit the statistics they are normalised with."""
    kinds = (
        ("action", measures.action_outside, data.dataset.action_names, data.processor.normalization["ACTION"]),
        ("state", measures.state_outside, data.dataset.state_names, data.processor.normalization["STATE"]),
    )
    for kind, shares, names, mode in kinds:
        if shares is None:
            continue
        out = {name: float(share) for name, share in zip(names, shares, strict=True) if share > MOST_OUTSIDE}
        if out:
            listed = ", ".join(f"{name} {share:.0%}" for name, share in list(out.items())[:SHOWN])
            more = f" and {len(out) - SHOWN} more" * (len(out) > SHOWN)
            yield warning(
                f"range.{kind}",
                f"{kind} values lie outside of ±{REACH[mode]:g} after normalisation: {listed}{more}; sound: 2 %",
                "the statistics are of other data: other units, another robot, or another kind of action"
                if mode != "IDENTITY"
                else "nothing is normalised, and the network is made for numbers in [-1, 1]",
                "train with --stats=recompute and normalisation by QUANTILES, or mend the data's units",
                out,
            )


def judge_loss_shares(shares: Float[np.ndarray, " n"], names: Sequence[str]) -> Iterator[Finding]:
    """Yield what to say of one dimension that makes most of the loss."""
    limit = max(MOST_OF_LOSS, 2 / len(shares))
    for name, share in zip(names, shares, strict=True):
        if share > limit:
            yield warning(
                "loss.dimension",
                f"{name} makes {share:.0%} of the loss, of {len(shares)} dimensions",
                "the others are learnt slowly, since most of the gradient is its",
                "look at its numbers for noise and rare values far outside (pi05 check); noise is best left out",
                {name: float(share)},
            )
