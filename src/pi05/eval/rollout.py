"""Rollouts: the success rate of a policy that acts in a simulator, many episodes side by side.

The policy looks, predicts a chunk of actions, and the first `n_action_steps` of it are executed open loop; then it
looks again (replans). Nothing is rendered for the policy in between. With a delay a chunk
arrives later (`chunking.py`). It takes whoever waits for it now as one batch;
environments in processes of their own are not waited for.

The result is the same for any number of environments, here or in processes. Each episode has its own layout seed, its
own noise generator and its own choice of swapped instruction, all functions of (seed, episode); environments only lend
their place. What batching cannot promise is the last bit of a float: a matrix product may round differently at another
batch size.

An episode that ends as an error of the simulator is carried out once more, from its beginning, in another environment.

Leaves out which policy and environment, and what is written about it (`evaluate.py`), and the open-loop error on
recorded episodes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pi05.errors import EvaluationError
from pi05.eval.chunking import Course, require_possible
from pi05.eval.config import EvalConfig
from pi05.eval.episode import EpisodePlan, EpisodeResult, Spent
from pi05.eval.film import Film, Gallery
from pi05.eval.places.here import Places, PlacesHere
from pi05.eval.places.place import Turn
from pi05.eval.rules import Rules, rules_of
from pi05.policy import Policy
from pi05.serve.rtc import next_chunks, require_trained
from pi05.sim.episodes import nth_episode
from pi05.sim.protocol import Environment, Observation


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


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An episode that has ended: what came of it, what it looked like, and where its time went."""

    result: EpisodeResult
    film: Film
    spent: Spent


@dataclass
class _Slot:
    """An episode that goes on."""

    plan: EpisodePlan
    noise: torch.Generator
    course: Course
    policy_s: float = 0.0
    chunks: int = 0
    observation: Observation = field(default_factory=dict)


def run_episodes(
    policy: Actor,
    make_environment: Callable[[], Environment],
    config: EvalConfig,
    *,
    gallery: Gallery | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Carry out the rollouts in this process and return what came of each, in order.

    An exception of the simulator ends its episode as an error; an exception of the policy is raised.
    """
    results: dict[int, EpisodeResult] = {}

    def ended(episode: Ended) -> None:
        results[episode.result.index] = episode.result
        if gallery is not None:
            gallery.offer(episode.film)
        if on_episode is not None:
            on_episode(episode.result)

    with PlacesHere(make_environment, config.num_envs) as places:
        rules = rules_of(config, places.facts, policy.n_action_steps)
        filmed = gallery is not None and gallery.limit > 0
        Rollout(policy, places, rules, config, filmed=filmed).carry_out(range(rules.episodes), ended)
    return [results[index] for index in sorted(results)]


class Rollout:
    """One policy in a number of environments, under one set of rules."""

    def __init__(self, policy: Actor, places: Places, rules: Rules, config: EvalConfig, *, filmed: bool) -> None:
        self._policy, self._places, self._rules, self._config = policy, places, rules, config
        self._filmed = filmed
        self.on_look: Callable[[EpisodePlan, Observation], None] = lambda _plan, _observation: None
        """Called with the first observation of each episode."""
        require_possible(rules, policy.noise_shape[0])
        if rules.chunking == "trained":
            require_trained(self._steered(), "trained", rules.delay)

    def carry_out(self, episodes: Iterable[int], ended: Callable[[Ended], None]) -> None:
        """Carry out the episodes of these numbers and call `ended` with each, in the order in which they end.

        Raises what the policy raises, and EvaluationError where the rollouts cannot go on.
        """
        self._waiting: dict[str | None, deque[int]] = {}
        for index in episodes:
            self._waiting.setdefault(self._task(index), deque()).append(index)
        self._repeated: dict[int, str] = {}
        self._active: dict[int, _Slot] = {}
        while self._waiting or self._active:
            self._fill()
            ready = self._collect(ended, wait=True)
            self._fill()
            ready += self._collect(ended, wait=False)
            if ready:
                self._answer(ready)

    def plan(self, index: int) -> EpisodePlan:
        """Return what the environment is told of an episode."""
        task, turn = nth_episode(self._rules.tasks, index)
        swap = int(self._random(index)[1]) if self._config.swap_instruction else None
        return EpisodePlan(
            index=index,
            seed=self._config.episode_seed(turn),
            task=task,
            max_steps=self._rules.max_steps,
            swap=swap,
            film=self._rules.film_of if self._filmed else None,
        )

    def _random(self, index: int) -> np.ndarray:
        return np.random.SeedSequence([self._rules.seed, index]).generate_state(2)

    def _task(self, index: int) -> str | None:
        return nth_episode(self._rules.tasks, index)[0]

    def _fill(self) -> None:
        """Give each free environment an episode: of the task that it has already, else of one that no other has."""
        for last_task in self._places.free():
            if not self._waiting:
                return
            index = self._next(last_task)
            noise = torch.Generator().manual_seed(int(self._random(index)[0]))
            rules = self._rules
            course = Course(rules.chunking, rules.delay, rules.n_action_steps, self._places.facts.motions)
            slot = self._active[index] = _Slot(self.plan(index), noise, course)
            self._places.begin(slot.plan, last_task)

    def _next(self, last_task: str | None) -> int:
        """Take the number of the episode that suits an environment with this task."""
        others = {slot.plan.task for slot in self._active.values()}
        task = last_task
        if task not in self._waiting:
            new = self._waiting.keys() - others
            task = min(new or self._waiting, key=lambda name: self._waiting[name][0])
        index = self._waiting[task].popleft()
        if not self._waiting[task]:
            del self._waiting[task]
        return index

    def _collect(self, ended: Callable[[Ended], None], *, wait: bool) -> list[_Slot]:
        """Take what the environments have answered, and return the episodes that wait for the policy."""
        ready = []
        for index, turn in self._places.turns(wait=wait).items():
            slot = self._active[index]
            if turn.observation is not None:
                if slot.chunks == 0:
                    self.on_look(slot.plan, self._shown(turn.observation))
                slot.observation = turn.observation
                ready.append(slot)
                continue
            del self._active[index]
            assert turn.result is not None  # a turn is one or the other
            if turn.result.outcome == "error" and index not in self._repeated:
                self._repeated[index] = turn.result.error or "no reason was told"
                self._waiting.setdefault(slot.plan.task, deque()).appendleft(index)
            else:
                ended(self._ended(slot, turn, turn.result))
        return ready

    def _ended(self, slot: _Slot, turn: Turn, result: EpisodeResult) -> Ended:
        seam = slot.course.largest_seam(result.steps)
        result = replace(result, repeated=self._repeated.get(result.index), seam=seam)
        turn.spent.policy_s = slot.policy_s
        return Ended(result=result, film=Film(result, list(turn.frames), turn.stride), spent=turn.spent)

    def _answer(self, ready: Sequence[_Slot]) -> None:
        """Let the policy answer all that wait, as one batch."""
        started = time.perf_counter()
        noise = torch.stack([torch.randn(self._policy.noise_shape, generator=slot.noise) for slot in ready])
        observations = [self._shown(slot.observation) for slot in ready]
        chunks = self._infer(observations, [slot.course for slot in ready], noise)
        share = (time.perf_counter() - started) / len(ready)
        for slot, chunk in zip(ready, chunks, strict=True):
            _require_finite(slot, chunk, self._rules.n_action_steps)
            slot.policy_s += share
            slot.chunks += 1
            self._places.execute(slot.plan.index, slot.course.until_next_look(chunk))

    def _infer(
        self, observations: Sequence[Observation], courses: Sequence[Course], noise: Float[Tensor, "B A X"]
    ) -> list[Float[np.ndarray, "steps n"]]:
        """Ask the policy, and tell it what is carried out meanwhile where it is asked to continue that."""
        steps, chunking = self._config.policy.num_inference_steps, self._rules.chunking
        if chunking == "synchronous" or chunking == "naive":
            return self._policy.infer_batch(observations, noise=noise, num_steps=steps)
        underway = [course.underway for course in courses]
        return next_chunks(self._steered(), observations, underway, mode=chunking, noise=noise, num_steps=steps)

    def _steered(self) -> Policy:
        """Return the policy as one whose chunks can be steered."""
        if not isinstance(self._policy, Policy):
            raise TypeError(f"--chunking={self._rules.chunking} works on a network, not on {type(self._policy)}")
        return self._policy

    def _shown(self, observation: Observation) -> Observation:
        """Return what the policy is given."""
        if not self._config.blank_pictures:
            return observation
        return {
            name: np.zeros_like(value) if isinstance(value, np.ndarray) and value.dtype == np.uint8 else value
            for name, value in observation.items()
        }


def _require_finite(slot: _Slot, chunk: Float[np.ndarray, "A n"], executed: int) -> None:
    """Refuse NaN here: as an exception of the simulator it would drop out of the rates."""
    if not np.isfinite(chunk).all():
        raise EvaluationError(
            "the policy's actions are not finite numbers",
            found=f"{chunk[~np.isfinite(chunk).all(axis=1)][0]} in episode {slot.plan.index} at step "
            f"{slot.chunks * executed}",
            remedy="use an earlier checkpoint of the run; its weights are damaged",
        )
