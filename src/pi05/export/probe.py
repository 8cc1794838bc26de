"""A fixed question to a policy, and its answer: how two copies of a policy are shown to be the same one.

The question is drawn from a seed: pictures of the network's own size (so that no resize takes part), states on the
centres of prompt bins (so that rounding in another formula cannot tip one over), instructions, noise. The answer is the
prompt's tokens, the normalised actions and the actions in robot units. Both lie in the folders that `pi05 export`
writes. Everything is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor

from pi05.checkpoint.foreign_statistics import half_ranges
from pi05.data.collate import collate
from pi05.data.processor import Processor
from pi05.data.prompt import STATE_BINS
from pi05.errors import CheckpointError, DataError
from pi05.files import write_atomic
from pi05.policy import Policy
from pi05.types import STATE, TASK

PROBE = "pi05_probe.safetensors"
SAMPLES = 2
NUM_STEPS = 10
SEED = 20260105
TASKS = (
    "pick up the red cube and place it in the bowl",
    "open the top drawer",
    "put the red block on the blue plate",
    "push the block",
    "go",
)


@dataclass(frozen=True, eq=False)
class Probe:
    """The question. Pictures are in the order of the policy's cameras, whatever their names."""

    pictures: UInt8[np.ndarray, "N K side side 3"]
    states: Float[np.ndarray, "N S"]
    tasks: tuple[str, ...]
    noise: Float[Tensor, "N A X"]

    def observations(self, processor: Processor) -> list[dict[str, Any]]:
        """Return the question as raw observations. Raises CheckpointError for a policy of other cameras or sizes."""
        keys, side = processor.slots.keys, processor.image_size
        wanted = (len(keys), side, processor.state_dim, processor.horizon, processor.action_dim)
        found = (*self.pictures.shape[1:3], self.states.shape[1], *self.noise.shape[1:])
        if wanted != found:
            names = ("cameras", "picture side", "state numbers", "horizon", "action dimensions")
            odd = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b]
            raise CheckpointError(
                "the probe does not fit the policy",
                wanted=", ".join(f"{names[i]} {found[i]}" for i in odd),
                found=", ".join(f"{names[i]} {wanted[i]}" for i in odd),
                remedy="compare folders of the same policy, read with the same options",
            )
        return [
            {**dict(zip(keys, pictures, strict=True)), STATE: state, TASK: task}
            for pictures, state, task in zip(self.pictures, self.states, self.tasks, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a policy says to a probe."""

    tokens: tuple[tuple[int, ...], ...]
    normalized: Float[np.ndarray, "N A X"]
    actions: Float[np.ndarray, "N A n"]


def make_probe(processor: Processor) -> Probe:
    """Draw the question for a policy; the same processor always gets the same one."""
    generator = np.random.default_rng(SEED)
    side, cameras = processor.image_size, len(processor.slots.keys)
    coarse = generator.integers(0, 256, (SAMPLES, cameras, 4, 4, 3), np.uint8)  # shapes, not only noise
    pictures = coarse.repeat(-(-side // 4), axis=2).repeat(-(-side // 4), axis=3)[:, :, :side, :side]
    grain = generator.integers(0, 32, pictures.shape, np.uint8)
    centres = (np.arange(STATE_BINS) + 0.5) * 2 / STATE_BINS - 1
    normalized = generator.choice(centres[8:-8], (SAMPLES, processor.state_dim))
    states = processor.state_normalizer.unnormalize(normalized).astype(np.float32)
    noise = generator.standard_normal((SAMPLES, processor.horizon, processor.action_dim)).astype(np.float32)
    return Probe(
        pictures=np.clip(pictures.astype(np.int16) + grain, 0, 255).astype(np.uint8),
        states=states,
        tasks=fitting_tasks(processor, states),
        noise=torch.from_numpy(noise),
    )


def fitting_tasks(processor: Processor, states: np.ndarray) -> tuple[str, ...]:
    """Return one instruction for each state, whose prompt the policy accepts."""
    fitting = []
    for task in TASKS:
        try:
            processor.encode_prompts([task] * len(states), states)
        except DataError as error:
            problem = error
        else:
            fitting.append(task)
    if not fitting:
        raise problem
    return tuple(fitting[i % len(fitting)] for i in range(len(states)))


def ask(policy: Policy, probe: Probe) -> Answer:
    """Return the policy's answer, computed in float32 whatever the policy computes in otherwise."""
    processor = policy.processor
    batch = collate([processor.encode(observation) for observation in probe.observations(processor)])
    with in_float32(policy), torch.inference_mode():
        device = next(policy.model.parameters()).device
        chunks = policy.model.sample_actions(batch.to(device), noise=probe.noise.to(device), num_steps=NUM_STEPS)
    normalized = chunks.float().cpu().numpy()
    actions = [processor.decode_actions(chunk, state) for chunk, state in zip(normalized, probe.states, strict=True)]
    counts = [len(row) for row in batch.tokens] if batch.token_mask is None else batch.token_mask.sum(dim=1).tolist()
    tokens = tuple(tuple(row[:count].tolist()) for row, count in zip(batch.tokens, counts, strict=True))
    return Answer(tokens=tokens, normalized=normalized, actions=np.stack(actions))


@contextmanager
def in_float32(policy: Policy) -> Iterator[None]:
    """Compute in float32 inside the block, on a GPU without its shortened multiplication."""
    before, precision = policy.model.compute_dtype, torch.get_float32_matmul_precision()
    policy.model.compute_dtype = torch.float32
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        policy.model.compute_dtype = before
        torch.set_float32_matmul_precision(precision)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far two answers are apart."""

    tokens: int
    """Prompt tokens that differ."""
    normalized: float
    """Largest difference of a normalised action."""
    actions: float
    """Largest difference of an action in robot units."""
    actions_in_units: float
    """The same, each dimension in units of its normalisation."""

    def exceeds(self, limit: float) -> bool:
        """Say whether a token differs or an action differs by more than `limit` normalised units."""
        largest = max(self.normalized, self.actions_in_units)
        return self.tokens > 0 or not largest <= limit  # NaN exceeds every limit

    def to_dict(self) -> dict[str, float]:
        """Return plain data."""
        return {
            "tokens": self.tokens,
            "normalised_actions": self.normalized,
            "robot_actions": self.actions,
            "robot_actions_in_normalised_units": self.actions_in_units,
        }


def compare(found: Answer, wanted: Answer, processor: Processor) -> Difference:
    """Return how far two answers are apart; `processor` gives the units."""
    if found.normalized.shape != wanted.normalized.shape or found.actions.shape != wanted.actions.shape:
        raise CheckpointError(
            "the two policies have actions of different sizes",
            wanted=f"{list(wanted.normalized.shape)}, {list(wanted.actions.shape)}",
            found=f"{list(found.normalized.shape)}, {list(found.actions.shape)}",
            remedy="compare folders of the same policy",
        )
    half = half_ranges(processor.action_stats, processor.normalization["ACTION"], processor.formula)
    apart = np.abs(found.actions.astype(np.float64) - wanted.actions)
    # float32 itself: a joint at 100 degrees with a range of 0.01 is not known to 1e-4 of that range
    rounding = 4 * np.finfo(np.float32).eps * np.abs(wanted.actions)
    return Difference(
        tokens=sum(_differing(a, b) for a, b in zip(found.tokens, wanted.tokens, strict=True)),
        normalized=float(np.abs(found.normalized - wanted.normalized).max()),
        actions=float(apart.max()),
        actions_in_units=float((np.maximum(apart - rounding, 0) / half).max()),
    )


def _differing(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))


def write_probe(folder: Path, probe: Probe, answer: Answer) -> None:
    """Write question and answer into `folder`; the instructions go to the folder's pi05.json."""
    tensors = {
        "pictures": torch.from_numpy(probe.pictures),
        "states": torch.from_numpy(probe.states),
        "noise": probe.noise,
        "normalised_actions": torch.from_numpy(answer.normalized),
        "robot_actions": torch.from_numpy(answer.actions),
        **{f"tokens.{i}": torch.tensor(row, dtype=torch.int64) for i, row in enumerate(answer.tokens)},
    }
    write_atomic(folder / PROBE, safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}))


def read_probe(folder: Path, tasks: Sequence[str]) -> tuple[Probe, Answer]:
    """Read question and answer. Raises CheckpointError when they are missing or damaged."""
    path = folder / PROBE
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        probe = Probe(
            pictures=tensors["pictures"].numpy(),
            states=tensors["states"].numpy(),
            tasks=tuple(tasks),
            noise=tensors["noise"],
        )
        rows = tuple(tuple(tensors[f"tokens.{i}"].tolist()) for i in range(len(probe.states)))
        if len(probe.tasks) != len(rows):
            raise ValueError(f"{len(probe.tasks)} instructions for {len(rows)} states")
        answer = Answer(
            tokens=rows,
            normalized=tensors["normalised_actions"].numpy(),
            actions=tensors["robot_actions"].numpy(),
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            "the folder's stored probe cannot be read",
            wanted=f"{path}, as pi05 export wrote it",
            found=f"{type(error).__name__}: {error}",
            remedy="copy the folder again, or export it again",
        ) from error
    return probe, answer
