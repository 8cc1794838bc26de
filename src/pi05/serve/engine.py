"""The policy behind the server: what it needs, and its answers to batches of questions. The only module with torch.

One question's fault is its own: each is prepared alone, and a batch whose actions are not finite is asked again one by
one. Noise is drawn for each question, so that a seed gives the same chunk whoever else asks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pi05
from pi05.checkpoint.locate import locate
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError, DataError, UserError
from pi05.machine import choose_device, keep_freed_memory
from pi05.policy import Policy, Prepared, open_policy
from pi05.serve.batching import Answered, Question
from pi05.serve.config import ServeConfig
from pi05.serve.protocol import Camera, Contract, Numbers
from pi05.types import STATE, TASK


class Engine:
    """A loaded policy that answers questions."""

    def __init__(
        self, policy: Policy, *, num_steps: int = 10, checkpoint: str = "", folder: Path | None = None
    ) -> None:
        """`checkpoint` is the hash of the weights, `folder` where they are from."""
        self.policy, self.num_steps, self.folder = policy, num_steps, folder
        self.contract = contract_of(policy, num_steps, checkpoint)

    @classmethod
    def load(cls, config: ServeConfig) -> Engine:
        """Load the policy that the settings name. Raises UserError where it is not there or not complete."""
        if config.policy.path is None:
            raise CheckpointError("no policy is named", remedy="add --policy.path=RUN, or a checkpoint folder")
        options = PolicyOptions(
            prompt_format=config.prompt_format,
            rename_map=config.rename_map or None,
            asset_id=config.asset_id,
            horizon=config.policy.chunk_size,
            adapt_to_pi=config.adapt_to_pi,
            tokenizer_path=config.policy.tokenizer_path,
        )
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        device = str(choose_device(config.policy.device))
        opened = open_policy(locate(config.policy.path), device, options=options)
        policy = opened.policy
        policy.only_infer()
        if device == "cpu":
            keep_freed_memory()  # a twelfth of a chunk's processor time, in a process that samples all day
        if config.policy.n_action_steps is not None:
            notes = policy.notes
            policy = Policy(
                policy.model,
                policy.processor,
                n_action_steps=config.policy.n_action_steps,
                provenance=policy.provenance,
            )
            policy.notes = notes
        policy.strict = config.strict
        return cls(
            policy,
            num_steps=config.policy.num_inference_steps,
            checkpoint=opened.receipt.sha256,
            folder=opened.location.folder,
        )

    def warm_up(self, sizes: Sequence[int]) -> float:
        """Answer made-up observations in batches of some sizes; return the seconds that the last one took."""
        one, seconds = example_observation(self.policy), 0.0
        for size in sizes:
            started = time.perf_counter()
            prepared = [self.policy.prepare(one)] * size
            noise = torch.zeros((size, *self.policy.noise_shape))
            self.policy.answer(prepared, noise, self.num_steps)
            seconds = time.perf_counter() - started
        return seconds

    def answer_all(self, questions: Sequence[Question]) -> list[Answered | UserError]:
        """Answer each question, or say what it has wrong."""
        started = time.perf_counter()
        prepared = [self._prepare(question) for question in questions]
        good = [i for i, one in enumerate(prepared) if isinstance(one, Prepared)]
        answers: list[Answered | UserError] = [one if isinstance(one, UserError) else _NOT_YET for one in prepared]
        chunks = self._chunks([questions[i] for i in good], [one for one in prepared if isinstance(one, Prepared)])
        infer_ms = 1000 * (time.perf_counter() - started)
        for i, chunk in zip(good, chunks, strict=True):
            one = prepared[i]
            if isinstance(chunk, UserError) or isinstance(one, UserError):
                answers[i] = chunk if isinstance(chunk, UserError) else answers[i]
            else:
                answers[i] = Answered(actions=chunk, warnings=one.warnings, infer_ms=infer_ms, batch=len(good))
        return answers

    def _prepare(self, question: Question) -> Prepared | UserError:
        try:
            return self.policy.prepare(question.observation)
        except UserError as error:
            return error

    def _chunks(self, questions: Sequence[Question], prepared: Sequence[Prepared]) -> list[np.ndarray | UserError]:
        if not prepared:
            return []
        noise = torch.cat([self._noise(question.seed) for question in questions])
        try:
            return list(self.policy.answer(prepared, noise, self.num_steps))
        except DataError as error:
            if len(prepared) == 1:
                return [error]
        return [self._chunks_alone(one, noise[i : i + 1]) for i, one in enumerate(prepared)]

    def _chunks_alone(self, prepared: Prepared, noise: torch.Tensor) -> np.ndarray | UserError:
        try:
            return self.policy.answer([prepared], noise, self.num_steps)[0]
        except DataError as error:
            return error

    def _noise(self, seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.randn((1, *self.policy.noise_shape), generator=generator)


_NOT_YET = DataError("the observation was not answered", remedy="read the server's log")


def contract_of(policy: Policy, num_steps: int, checkpoint: str) -> Contract:
    """Return what a policy needs and answers."""
    processor, slots = policy.processor, policy.processor.slots
    columns = tuple((column.name, column.size) for column in processor.state_columns)
    return Contract(
        cameras=tuple(
            Camera(name=name, slot=slot, size=processor.camera_sizes.get(slot))
            for slot, name in zip(slots.used, slots.keys, strict=True)
        ),
        dropped_cameras=slots.dropped,
        image_size=processor.image_size,
        state=_numbers(processor.state_stats, processor.state_names, columns),
        needs_state=processor.prompt_format != "none" or processor.relative_mask is not None,
        action=_numbers(processor.action_stats, processor.action_names),
        relative=processor.relative_mask,
        control_rate_hz=processor.fps,
        horizon=processor.horizon,
        n_action_steps=policy.n_action_steps,
        num_inference_steps=num_steps,
        prompt_format=processor.prompt_format,
        strict=policy.strict,
        checkpoint=checkpoint,
        step=policy.provenance.get("step"),
        server=f"pi05 {pi05.__version__}",
    )


def _numbers(stats: DimStats, names: Sequence[str], columns: tuple[tuple[str, int], ...] = ()) -> Numbers:
    low, high = stats.range or (None, None)
    return Numbers(
        dim=stats.dim,
        names=tuple(names),
        low=None if low is None else tuple(low.tolist()),
        high=None if high is None else tuple(high.tolist()),
        columns=columns,
    )


def example_observation(policy: Policy, seed: int = 0) -> dict[str, Any]:
    """Return a made-up observation that the policy accepts: noise, a state in the middle of its range, a short task."""
    processor, rng = policy.processor, np.random.default_rng(seed)
    known = processor.state_stats.range
    middle = processor.state_stats.value("mean") if known is None else (known[0] + known[1]) / 2
    side = processor.image_size
    pictures = {key: rng.integers(0, 256, (side, side, 3), np.uint8) for key in processor.slots.keys}
    return {**pictures, STATE: middle.astype(np.float32), TASK: "go"}
