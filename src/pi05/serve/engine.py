"""The policy behind the server: what it needs, and its answers to batches of questions. The only module with torch.

One question's fault is its own: each is prepared alone, and a batch whose actions are not finite is asked again one by
one. Noise is drawn for each question, so that a seed gives the same chunk whoever else asks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
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
from pi05.policy import Policy, open_policy
from pi05.prepared import Prepared
from pi05.serve.batching import Answered, Question
from pi05.serve.compilation import compiler_faults, require_compiler
from pi05.serve.config import Chunking, Precision, ServeConfig
from pi05.serve.protocol import Camera, Contract, Numbers
from pi05.serve.rtc import continuation, require_trained
from pi05.serve.underway import Mode, Underway
from pi05.types import STATE, TASK

ROUNDS_OF_GRAPHS = 3
"""A GPU runs a graph as it is, then records it, then replays it."""


def prepare(policy: Policy, precision: Precision | None = None, *, compile_for: int | None = None) -> None:
    """Make this process fit to sample from a policy all day, and for nothing else; its weights are laid out anew.

    `compile_for` is the largest batch that graphs will be compiled for; None: nothing is compiled.
    """
    policy.only_infer(precision=precision, compile=compile_for is not None, max_batch=compile_for)
    if next(policy.model.parameters()).device.type == "cpu":
        keep_freed_memory()  # a twelfth of a chunk's processor time


class Engine:
    """A loaded policy that answers questions."""

    def __init__(
        self,
        policy: Policy,
        *,
        num_steps: int = 10,
        chunking: Chunking = "synchronous",
        checkpoint: str = "",
        folder: Path | None = None,
    ) -> None:
        """`checkpoint` is the hash of the weights, `folder` where they are from.

        Raises CheckpointError for `trained` chunking with a policy that was not trained for it.
        """
        self.policy, self.num_steps, self.folder = policy, num_steps, folder
        self.mode: Mode = "naive" if chunking == "synchronous" else chunking
        require_trained(policy, self.mode, 0)
        self.contract = contract_of(policy, num_steps, chunking, checkpoint)

    @classmethod
    def load(cls, config: ServeConfig) -> Engine:
        """Load the policy that the settings name. Raises UserError where it is not there or not complete."""
        if config.policy.path is None:
            raise CheckpointError("no policy is named", remedy="add --policy.path=RUN, or a checkpoint folder")
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        device = str(choose_device(config.policy.device))
        if config.compile_model:
            require_compiler(device.partition(":")[0])
        opened = open_policy(locate(config.policy.path), device, options=PolicyOptions(**config.told))
        policy = opened.policy
        if config.policy.n_action_steps is not None:
            notes = policy.notes
            policy = Policy(
                policy.model,
                policy.processor,
                n_action_steps=config.policy.n_action_steps,
                provenance=policy.provenance,
                max_delay=policy.max_delay,
            )
            policy.notes = notes
        prepare(policy, config.precision, compile_for=config.max_batch if config.compile_model else None)
        policy.strict = config.strict
        return cls(
            policy,
            num_steps=config.policy.num_inference_steps,
            chunking=config.chunking,
            checkpoint=opened.receipt.sha256,
            folder=opened.location.folder,
        )

    def warm_up(self, sizes: Sequence[int]) -> float:
        """Answer made-up observations in batches of some sizes; return the seconds that the last one took.

        Where chunks are continued, these are, too. Those seconds are in the contract from then on.
        """
        seconds = 0.0
        for size in sizes:
            seconds = self._make_up(size, self._made_up_chunk())
        self.contract = replace(self.contract, warm_s=seconds)
        return seconds

    def build(self, size: int) -> float:
        """Compile all that batches of a size take, continued chunks and others; return the seconds.

        Raises ServeError where the compiler fails.
        """
        started, underway = time.perf_counter(), self._made_up_chunk()
        device = next(self.policy.model.parameters()).device
        with compiler_faults():
            for _ in range(1 if device.type == "cpu" else ROUNDS_OF_GRAPHS):
                self._make_up(size, None)
                if underway is not None:
                    self._make_up(size, underway)
        return time.perf_counter() - started

    def _made_up_chunk(self) -> Underway | None:
        """Return what a robot would be doing where chunks are continued."""
        if self.mode == "naive":
            return None
        left = np.zeros((self.contract.horizon, self.contract.action.dim), np.float32)
        return Underway(actions=left, delay=min(1, self.contract.max_delay or 1))

    def _make_up(self, size: int, underway: Underway | None) -> float:
        """Answer a made-up batch; return the seconds that it took."""
        started = time.perf_counter()
        prepared = [self.policy.prepare(example_observation(self.policy))] * size
        self._answer(prepared, torch.zeros((size, *self.policy.noise_shape)), [underway] * size)
        return time.perf_counter() - started

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
            return self.policy.prepare(question.observation, question.looks)
        except UserError as error:
            return error

    def _chunks(self, questions: Sequence[Question], prepared: Sequence[Prepared]) -> list[np.ndarray | UserError]:
        if not prepared:
            return []
        noise = torch.cat([self._noise(question.seed) for question in questions])
        underway = [question.underway for question in questions]
        try:
            return list(self._answer(prepared, noise, underway))
        except DataError as error:
            if len(prepared) == 1:
                return [error]
        return [self._alone(one, noise[i : i + 1], underway[i]) for i, one in enumerate(prepared)]

    def _alone(self, prepared: Prepared, noise: torch.Tensor, underway: Underway | None) -> np.ndarray | UserError:
        try:
            return self._answer([prepared], noise, [underway])[0]
        except DataError as error:
            return error

    def _answer(
        self, prepared: Sequence[Prepared], noise: torch.Tensor, underway: Sequence[Underway | None]
    ) -> list[np.ndarray]:
        """Return the chunks, each continuing what its own robot is doing; robots that stand may be among them."""
        steering = continuation(self.policy, [one.state for one in prepared], underway, mode=self.mode)
        return self.policy.answer(prepared, noise, self.num_steps, **steering)

    def _noise(self, seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.randn((1, *self.policy.noise_shape), generator=generator)


_NOT_YET = DataError("the observation was not answered", remedy="read the server's log")


def contract_of(policy: Policy, num_steps: int, chunking: Chunking, checkpoint: str) -> Contract:
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
        chunking=chunking,
        max_delay=policy.max_delay - 1 if chunking == "trained" else None,
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
    """Return a made-up observation that a strict policy accepts, too: noise, a state in the middle of its range, and a
    task of its training, where that is known."""
    processor, rng = policy.processor, np.random.default_rng(seed)
    known = processor.state_stats.range
    middle = processor.state_stats.value("mean") if known is None else (known[0] + known[1]) / 2
    side = processor.image_size
    pictures = {key: rng.integers(0, 256, (side, side, 3), np.uint8) for key in processor.slots.keys}
    task = next(iter(processor.instructions), "go")
    return {**pictures, STATE: middle.astype(np.float32), TASK: task}
