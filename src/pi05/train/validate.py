"""How good are the actions? The error on held-out episodes in robot units, beside baselines that learn nothing.

A loss of flow matching says little about actions, so whole chunks are predicted, always for the same frames, turned
back into robot units and compared with what the demonstrator did. The noise is fixed at zero, the centre of its
distribution. A random draw would add the spread of the demonstrations to the error. That would hide a policy that knows
what to do behind dimensions that are mostly sensor noise (measured on a Dobot CR5: 1.20 instead of 0.71; baseline
0.74).

The baselines (`data/measures/baselines.py`) repeat the mean action, hold what is, or copy the nearest training frame.
One number sums up: the mean over dimensions of the error in standard deviations of the training actions, so metres and
radians do not mix; it decides which checkpoint is the best. Constant dimensions are listed, but left out of that
number. The same frames tell what each input does to the actions (`watchers/ablations.py`). Leaves out success rates
(`eval/rollout.py`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import nn

from pi05.data.collate import collate
from pi05.data.measures import chunk_error as measures
from pi05.data.measures.baselines import Demonstrations, baseline_chunks
from pi05.data.measures.chunk_error import measure_chunks
from pi05.errors import TrainingError
from pi05.terminal import say
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData
from pi05.train.parallel.ranks import Ranks
from pi05.train.watchers.ablations import Ablations
from pi05.train.watchers.action_error import ActionError

NUM_STEPS = 10
"""Euler steps of the flow (denoising steps), as in use."""


class Validator:
    """Measures a network on frames of the held-out episodes, the same every time; several GPUs share the work."""

    def __init__(
        self,
        data: TrainingData,
        *,
        max_frames: int,
        batch_size: int,
        ranks: Ranks | None = None,
    ) -> None:
        self._data = data
        self._ranks = Ranks() if ranks is None else ranks
        self._frames = choose_frames(data, max_frames)
        starts = range(0, len(self._frames), batch_size)
        rounds = -(-len(starts) // self._ranks.world_size)
        own = [self._ranks.rank + turn * self._ranks.world_size for turn in range(rounds)]
        self._batches = [  # past the end the last one: all ranks make the same calls, since FSDP gathers layers in them
            collate([data.observation(frame) for frame in self._frames[start : start + batch_size]])
            for start in (starts[min(number, len(starts) - 1)] for number in own)
        ]
        self._spare = sum(number >= len(starts) for number in own)
        chunks = [data.dataset.action_chunk(frame, data.processor.horizon) for frame in self._frames]
        self._actions = np.stack([actions for actions, _ in chunks])
        self._valid = ~np.stack([padded for _, padded in chunks])
        self._mean, self._scale = action_moments(data)
        chosen = baseline_chunks(demonstrations(data, self._mean), self._frames)
        self._baselines = {
            name: measure_chunks(chunk, self._actions, self._valid, self._scale) for name, chunk in chosen.items()
        }
        self.ablations = Ablations(data, self._frames, batch_size=batch_size, scale=self._scale, ranks=self._ranks)

    def measure(
        self, model: nn.Module, device: torch.device, stopped: Callable[[], bool] = lambda: False
    ) -> ActionError | None:
        """Predict a chunk for every frame and compare; None where the run is `stopped` before all are predicted.

        All processes have to be asked alike: `stopped` is called once per batch in each. Raises TrainingError for
        predictions that are not finite.
        """
        started = time.perf_counter()
        processor = self._data.processor
        chunks = []
        training = model.training
        model.eval()  # no dropout
        for batch in self._batches:
            if stopped():
                model.train(training)
                return None
            noise = torch.zeros(len(batch.tokens), processor.horizon, processor.action_dim, device=device)
            chunk = model.sample_actions(batch.to(device), noise=noise, num_steps=NUM_STEPS)  # type: ignore[operator]
            chunks.append(chunk.float().cpu().numpy())
        model.train(training)
        shares = self._ranks.gather(chunks[: len(chunks) - self._spare])
        turns = itertools.zip_longest(*shares)
        normalized = np.concatenate([chunk for turn in turns for chunk in turn if chunk is not None])
        require_finite_predictions(normalized, self._frames)
        predicted = processor.decode_actions(normalized, self._data.dataset.states()[self._frames])
        effects = self.ablations.measure(model, device, NUM_STEPS, stopped)
        if effects is None:
            return None
        return ActionError(
            names=tuple(self._data.dataset.action_names),
            policy=measure_chunks(predicted, self._actions, self._valid, self._scale),
            baselines=self._baselines,
            effects=effects,
            scale=self._scale,
            frames=len(self._frames),
            episodes=len(self._data.held_out),
            seconds=time.perf_counter() - started,
        )


def require_finite_predictions(chunks: Float[np.ndarray, "N A X"], frames: Sequence[int]) -> None:
    """Raise TrainingError where a prediction is NaN or infinite."""
    broken = np.flatnonzero(~np.isfinite(chunks).all(axis=(1, 2)))
    if len(broken):
        named = ", ".join(str(frames[index]) for index in broken[:8])
        raise TrainingError(
            "the network's actions on held-out frames are not finite; no checkpoint was written",
            wanted="finite actions",
            found=f"NaN or infinite on {len(broken)} of {len(frames)} frames: {named}",
            remedy="its weights are broken: resume from the last checkpoint with a lower --policy.optimizer_lr",
        )


def choose_frames(data: TrainingData, count: int) -> list[int]:
    """Return up to `count` frames spread evenly over the held-out episodes."""
    frames = data.frames_of(data.held_out)
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [frames[index] for index in chosen]


def action_moments(data: TrainingData) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return mean and standard deviation of the training actions in robot units; 0 for a constant dimension."""
    return measures.action_moments(data.dataset, data.train_episodes)


def demonstrations(data: TrainingData, mean: Float[np.ndarray, " n"]) -> Demonstrations:
    """Return what the baselines of a run are taken from: what it is trained on. `mean` is that of its actions."""
    return Demonstrations(
        dataset=data.dataset,
        frames=data.frames_of(data.train_episodes),
        mean=mean,
        horizon=data.processor.horizon,
        relative_mask=data.processor.relative_mask,
    )


def announce_held_out(data: TrainingData, console: Console, eval_steps: int) -> None:
    """Say which episodes are held out, or why none is."""
    if eval_steps == 0:
        say(console, "held out: the action error is not measured (--eval_steps 0)")
    elif not data.held_out:
        why = "no task has more than four episodes" if data.config.eval_split else "--dataset.eval_split 0"
        say(console, f"held out: no episode ({why}); all are trained on, so the action error is not measured")
    else:
        frames = len(data.frames_of(data.held_out))
        say(
            console, f"held out: {episode_list(data.held_out)} ({frames:,} frames), measured every {eval_steps:,} steps"
        )


def episode_list(episodes: Sequence[int], most: int = 12) -> str:
    """Return episodes as text: episodes 3, 17 and 5 more."""
    shown = ", ".join(str(episode) for episode in episodes[:most])
    more = f" and {len(episodes) - most} more" if len(episodes) > most else ""
    return f"episode{'s' * (len(episodes) != 1)} {shown}{more}"


def build_validator(config: TrainConfig, data: TrainingData, ranks: Ranks) -> Validator | None:
    """Return what measures the held-out error, if anything is held out and it is wanted."""
    if config.eval_steps == 0 or not data.held_out:
        return None
    size = config.micro_batch_size(ranks.world_size)
    return Validator(data, max_frames=config.eval_frames, batch_size=size, ranks=ranks)
