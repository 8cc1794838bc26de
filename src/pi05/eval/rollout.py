"""Rollouts: the success rate of a policy that acts in a simulator, many episodes side by side.

The policy looks, predicts a chunk of actions, and the first `n_action_steps` of it are executed open loop; then it
looks again (replans). Nothing is rendered for the policy in between.

The result is the same for any number of environments. Each episode has its own layout seed, its own noise generator and
its own choice of swapped instruction, all functions of (seed, episode); environments only lend their place. What
batching cannot promise is the last bit of a float: a matrix product may round differently at another batch size.

Leaves out which policy and environment, and what is written about it (`evaluate.py`), and the open-loop error on
recorded episodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.episode import EpisodeResult, Outcome
from pi05.eval.film import FRAME_SIZE_PX, FRAMES_PER_FILM, Film, Gallery
from pi05.eval.instructions import other_instructions
from pi05.sim.environments import close_environment
from pi05.sim.episodes import nth_episode
from pi05.sim.protocol import Environment, Observation

SWAP_ATTEMPTS = 20
SWAP_SEED_STRIDE = 10**12
"""Distance from a layout that allows no swap to the one taken instead; far from every other evaluation's seeds."""


@runtime_checkable
class Actor(Protocol):
    """What a rollout asks of a policy."""

    @property
    def n_action_steps(self) -> int:
        """Actions of a chunk to execute."""
        ...

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the noise behind one chunk."""
        ...

    def infer_batch(
        self, observations: Sequence[dict[str, Any]], noise: Float[Tensor, "B A X"] | None = None, num_steps: int = 10
    ) -> list[Float[np.ndarray, "A n"]]:
        """Return one action chunk per observation."""
        ...


class _Environments:
    """Environments that are lent to one episode after another; one that failed is closed and not lent again."""

    def __init__(self, make: Callable[[], Environment]) -> None:
        self._make = make
        self._made: list[Environment] = []
        self._free: list[Environment] = []

    def __enter__(self) -> _Environments:
        return self

    def __exit__(self, *_: object) -> None:
        for environment in self._made:
            close_environment(environment)

    def lend(self) -> Environment:
        """Return one that nobody uses, a new one where there is none."""
        if self._free:
            return self._free.pop()
        self._made.append(self._make())
        return self._made[-1]

    def take_back(self, environment: Environment, *, failed: bool) -> None:
        """Keep it for the next episode, or close it."""
        if failed:
            self._made.remove(environment)
            close_environment(environment)
        else:
            self._free.append(environment)


@dataclass
class _Slot:
    """One environment and the episode that it carries out now."""

    environment: Environment
    episode: int
    seed: int
    task: str | None
    noise: torch.Generator
    observation: Observation = field(default_factory=dict)
    instruction: str = ""
    asked: str = ""
    steps: int = 0
    frames: list[np.ndarray] = field(default_factory=list)
    result: EpisodeResult | None = None

    def reset(self) -> None:
        """Begin the episode of the seed."""
        self.environment.reset(self.seed, self.task)
        self.observation = self.environment.observe()
        self.instruction = self.asked = self.observation["task"]

    def fail(self, where: str, error: Exception) -> None:
        """End the episode as one that does not count."""
        self.finish("error", error=f"{where}: {type(error).__name__}: {error}")

    def finish(self, outcome: Outcome, *, swapped_success: bool = False, error: str | None = None) -> None:
        """Set the result; `swapped_success` counts where the instruction is swapped."""
        swapped = self.asked != self.instruction and error is None
        self.result = EpisodeResult(
            index=self.episode,
            seed=self.seed,
            instruction=self.instruction,
            asked=self.asked,
            outcome=outcome,
            steps=self.steps,
            swapped_success=swapped_success if swapped else None,
            error=error,
        )


def run_episodes(
    policy: Actor,
    make_environment: Callable[[], Environment],
    config: EvalConfig,
    *,
    gallery: Gallery | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Carry out `config.episodes` rollouts and return what came of each, in order.

    An exception of the simulator ends its episode as an error; an exception of the policy is raised.
    """
    execute = config.policy.n_action_steps or policy.n_action_steps
    waiting = iter(range(config.episodes))
    results: dict[int, EpisodeResult] = {}
    with _Environments(make_environment) as environments:
        slots: list[_Slot] = []
        while True:
            for episode in itertools.islice(waiting, config.num_envs - len(slots)):
                slots.append(_begin(environments.lend(), episode, config))
            if not slots:
                return [results[index] for index in range(config.episodes)]
            active = [slot for slot in slots if slot.result is None]
            if active:
                noise = torch.stack([torch.randn(policy.noise_shape, generator=slot.noise) for slot in active])
                observations = [{**slot.observation, "task": slot.asked} for slot in active]
                chunks = policy.infer_batch(observations, noise=noise, num_steps=config.policy.num_inference_steps)
                for slot, chunk in zip(active, chunks, strict=True):
                    _require_finite(slot, chunk)
                    _execute(slot, chunk[:execute], record=gallery is not None and gallery.limit > 0)
            for slot in slots:
                if slot.result is None:
                    continue
                results[slot.episode] = slot.result
                if gallery is not None:
                    gallery.offer(Film(slot.result, slot.frames, _stride(slot.environment)))
                if on_episode is not None:
                    on_episode(slot.result)
                environments.take_back(slot.environment, failed=slot.result.outcome == "error")
            slots = [slot for slot in slots if slot.result is None]


def _begin(environment: Environment, episode: int, config: EvalConfig) -> _Slot:
    state = np.random.SeedSequence([config.seed, episode]).generate_state(2)
    task, turn = nth_episode(environment.tasks, episode)
    noise = torch.Generator().manual_seed(int(state[0]))
    slot = _Slot(environment, episode, config.episode_seed(turn), task, noise)
    try:
        slot.reset()
        if config.swap_instruction:
            _swap(slot, int(state[1]))
    except EvaluationError:
        raise
    except Exception as error:
        slot.fail("reset", error)
    return slot


def _swap(slot: _Slot, choice: int) -> None:
    """Ask for something else; a layout in which nothing else can be asked for is passed over for another one."""
    for _ in range(SWAP_ATTEMPTS):
        others = other_instructions(slot.environment, slot.instruction)
        if others:
            slot.asked = others[choice % len(others)]
            return
        slot.seed += SWAP_SEED_STRIDE
        slot.reset()
    raise EvaluationError(
        "the instruction cannot be swapped: the layouts allow no other goal",
        found=f"{SWAP_ATTEMPTS} layouts, the last one with {slot.instruction!r} only",
        remedy="evaluate without --swap_instruction, or in a family with several goals per layout",
    )


def _execute(slot: _Slot, actions: Float[np.ndarray, "A n"], *, record: bool) -> None:
    """Carry out the actions, open loop, until the episode ends: goal reached (original or asked for) or out of steps.

    A swapped episode ends at whichever goal is reached first, as an episode does whose instruction is not swapped.
    """
    environment = slot.environment
    stride = _stride(environment)
    try:
        for action in actions:
            if record and slot.steps % stride == 0:
                slot.frames.append(environment.render(FRAME_SIZE_PX))
            done, success = environment.step(action)
            slot.steps += 1
            swapped = slot.asked != slot.instruction and environment.check(slot.asked)
            if success or swapped or done or slot.steps >= environment.max_steps:
                if record:
                    slot.frames.append(environment.render(FRAME_SIZE_PX))
                slot.finish("success" if success else "failure", swapped_success=swapped)
                return
        slot.observation = environment.observe()
    except Exception as error:
        slot.fail(f"step {slot.steps}", error)


def _require_finite(slot: _Slot, chunk: Float[np.ndarray, "A n"]) -> None:
    """Refuse NaN here: as an exception of the simulator it would drop out of the rates."""
    if not np.isfinite(chunk).all():
        raise EvaluationError(
            "the policy's actions are not finite numbers",
            found=f"{chunk[~np.isfinite(chunk).all(axis=1)][0]} in episode {slot.episode} at step {slot.steps}",
            remedy="use an earlier checkpoint of the run; its weights are damaged",
        )


def _stride(environment: Environment) -> int:
    return -(-environment.max_steps // FRAMES_PER_FILM)
