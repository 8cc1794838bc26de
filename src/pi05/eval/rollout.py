"""Success rate of a policy in a simulator: many episodes side by side, the same result for any number of environments.

Each episode has its own layout seed, its own noise generator and its own choice of swapped instruction, all functions
of (seed, episode); environments only lend their place. What batching cannot promise is the last bit of a float: a
matrix product may round differently at another batch size.

Leaves out open-loop error on recorded episodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pi05.errors import EvaluationError
from pi05.eval.chosen_policy import load_policy, require_fit
from pi05.eval.config import EvalConfig
from pi05.eval.episode import EpisodeResult, Outcome
from pi05.eval.film import FRAME_SIZE_PX, FRAMES_PER_FILM, Film, Gallery
from pi05.eval.progress import EpisodeProgress
from pi05.eval.report import output_folder, write_evaluation
from pi05.eval.result import EvalResult
from pi05.machine import machine_info
from pi05.policy import Policy
from pi05.sim.protocol import Environment, environment_maker, other_instructions

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


def evaluate(
    config: EvalConfig,
    *,
    policy: Policy | None = None,
    make_environment: Callable[[], Environment] | None = None,
    console: bool = True,
) -> EvalResult:
    """Roll out the policy, write results.json and report.html, and return the result.

    `policy` replaces the one that `config.policy.path` names, `make_environment` the simulator. Raises EvaluationError
    when the policy does not fit the environment, or when no episode could be carried out.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    policy = policy or load_policy(config)
    started = time.perf_counter()
    make_environment = make_environment or environment_maker(config.env, config.family)
    environment = make_environment()
    require_fit(policy, environment, config.policy.n_action_steps)
    folder = output_folder(config)
    gallery = Gallery(limit=config.films)
    with EpisodeProgress(config.episodes, enabled=console) as progress:
        episodes = run_episodes(policy, make_environment, config, gallery=gallery, on_episode=progress.advance)
    result = EvalResult(
        config=config.to_dict(),
        policy=policy.provenance | {"n_action_steps": config.policy.n_action_steps or policy.n_action_steps},
        environment={
            "name": config.env,
            "family": config.family,
            "fps": environment.fps,
            "max_steps": environment.max_steps,
        },
        episodes=episodes,
        machine=machine_info(),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        wall_s=time.perf_counter() - started,
        flagged=list(policy.flagged),
        output_dir=str(folder),
        gallery=gallery,
    )
    page = write_evaluation(result, folder)
    if console:
        print(f"{result.render()}\nreport: {page}")
    if not result.counted:
        raise EvaluationError(
            "no episode could be carried out: the simulator raised an exception in each",
            found=result.errors[0].error,
            remedy=f"see {folder / 'results.json'} for every exception",
        )
    return result


@dataclass
class _Slot:
    """One environment and the episode that it carries out now."""

    environment: Environment
    episode: int
    seed: int
    noise: torch.Generator
    observation: dict[str, Any] = field(default_factory=dict)
    instruction: str = ""
    asked: str = ""
    steps: int = 0
    frames: list[np.ndarray] = field(default_factory=list)
    result: EpisodeResult | None = None

    def reset(self) -> None:
        """Begin the episode of the seed."""
        self.observation = self.environment.reset(self.seed)
        self.instruction = self.asked = self.observation["task"]

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
    """Carry out `config.episodes` episodes and return them in order.

    An exception of the simulator ends its episode as an error; an exception of the policy is raised.
    """
    execute = config.policy.n_action_steps or policy.n_action_steps
    waiting = iter(range(config.episodes))
    results: dict[int, EpisodeResult] = {}
    slots = list(_fill([], waiting, min(config.num_envs, config.episodes), make_environment, config))
    while slots:
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
        slots = list(_fill(slots, waiting, len(slots), make_environment, config))
    return [results[index] for index in range(config.episodes)]


def _fill(
    slots: Sequence[_Slot],
    waiting: Iterator[int],
    count: int,
    make_environment: Callable[[], Environment],
    config: EvalConfig,
) -> Iterator[_Slot]:
    """Yield the slots that are still busy, then new episodes up to `count` slots; a used environment is used again."""
    busy = [slot for slot in slots if slot.result is None]
    free = [slot.environment for slot in slots if slot.result is not None and slot.result.outcome != "error"]
    yield from busy
    for _ in range(count - len(busy)):
        episode = next(waiting, None)
        if episode is None:
            return
        yield _begin(free.pop() if free else make_environment(), episode, config)


def _begin(environment: Environment, episode: int, config: EvalConfig) -> _Slot:
    state = np.random.SeedSequence([config.seed, episode]).generate_state(2)
    slot = _Slot(environment, episode, config.episode_seed(episode), torch.Generator().manual_seed(int(state[0])))
    try:
        slot.reset()
        if config.swap_instruction:
            _swap(slot, int(state[1]))
    except EvaluationError:
        raise
    except Exception as error:
        slot.finish("error", error=f"reset: {type(error).__name__}: {error}")
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
    """Carry out the actions until the episode ends: goal reached (original or asked for) or out of steps.

    A swapped episode ends at whichever goal is reached first, as an episode does whose instruction is not swapped.
    """
    environment = slot.environment
    stride = _stride(environment)
    try:
        for action in actions:
            if record and slot.steps % stride == 0:
                slot.frames.append(environment.render(FRAME_SIZE_PX))
            slot.observation, done, success = environment.step(action)
            slot.steps += 1
            swapped = slot.asked != slot.instruction and environment.check(slot.asked)
            if success or swapped or done or slot.steps >= environment.max_steps:
                if record:
                    slot.frames.append(environment.render(FRAME_SIZE_PX))
                slot.finish("success" if success else "failure", swapped_success=swapped)
                return
    except Exception as error:
        slot.finish("error", error=f"step {slot.steps}: {type(error).__name__}: {error}")


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
