"""The rules of one evaluation: how many episodes, how long, how often the policy looks. Every default is resolved here.

In LIBERO a protocol sets them, exactly as the peer does whose name it has; what a flag sets otherwise is a departure
that the report tells. Elsewhere they are the policy's and the environment's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pi05.errors import EvaluationError
from pi05.eval.config import SEEDS_PER_EVALUATION, Chunking, EvalConfig
from pi05.eval.episode import FilmOf
from pi05.eval.places.place import EnvironmentFacts
from pi05.sim.libero.protocols import INITIAL_STATES, LiberoProtocol, protocol_named

EPISODES = 50
BLOCK = 50
"""Episodes after which `--episodes=auto` looks at the interval; no look in between."""
HALF_WIDTH = 0.05


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds in one evaluation."""

    episodes: int
    """Episodes; with `half_width` the most."""
    block: int
    """Episodes between two looks at the interval."""
    half_width: float | None
    """The interval that is narrow enough to stop; None: all episodes are carried out."""
    n_action_steps: int
    max_steps: int
    seed: int
    """Chooses the noise of the policy, and layouts where the environment has no numbered ones."""
    tasks: tuple[str, ...]
    film_of: FilmOf
    delay: int = 0
    """Control steps from an observation to its chunk."""
    chunking: Chunking = "synchronous"
    protocol: str | None = None
    departures: tuple[str, ...] = field(default=())
    """What a flag sets otherwise than the protocol does."""

    def blocks(self) -> list[range]:
        """Return the episodes in the portions between two looks at the interval; one portion where nobody looks."""
        step = self.episodes if self.half_width is None else self.block
        starts = range(0, self.episodes, step)
        return [range(start, min(start + step, self.episodes)) for start in starts]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.__dict__.items()}


def rules_of(config: EvalConfig, facts: EnvironmentFacts, executed: int) -> Rules:
    """Return the rules; `executed` is how many actions of a chunk the policy would have executed by itself.

    Raises EvaluationError where more steps are wanted than the environment grants.
    """
    if config.max_steps is not None and config.max_steps > facts.max_steps:
        raise EvaluationError(
            "an episode of this environment cannot be that long",
            wanted=f"--max_steps of at most {facts.max_steps}",
            found=str(config.max_steps),
            remedy="lower --max_steps, or leave it out",
        )
    own = Rules(
        episodes=_episodes(config, facts),
        block=_whole_rounds(BLOCK, len(facts.tasks)),
        half_width=(config.half_width or HALF_WIDTH) if config.episodes == "auto" else None,
        n_action_steps=config.policy.n_action_steps or executed,
        max_steps=config.max_steps or facts.max_steps,
        seed=config.seed or 0,
        tasks=facts.tasks,
        film_of="looks" if config.env == "libero" else "steps",
        delay=config.delay,
        chunking=config.chunking,
    )
    if config.env == "tabletop":
        return own
    return _under(protocol_named(config.protocol_name), config, facts, own)


def _under(protocol: LiberoProtocol, config: EvalConfig, facts: EnvironmentFacts, own: Rules) -> Rules:
    """Return the rules of a LIBERO protocol, with what flags set otherwise."""
    episodes = _episodes(config, facts, protocol.episodes_per_task)
    by_protocol = protocol.episodes_per_task * max(1, len(facts.tasks))
    compared = (
        ("actions of a chunk before the policy looks again", config.policy.n_action_steps, protocol.replan_steps),
        ("steps of an episode", config.max_steps, facts.max_steps),
        ("seed", config.seed, protocol.seed),
        ("episodes", None if own.half_width is not None else episodes, by_protocol),
    )
    departures = [
        f"{set_to} {what} instead of {usual}" if what != "seed" else f"seed {set_to} instead of {usual}"
        for what, set_to, usual in compared
        if set_to is not None and set_to != usual
    ]
    if own.half_width is not None:
        departures.append(f"as many episodes as a half width of {own.half_width:g} needs, instead of {by_protocol}")
    if config.tasks:
        departures.append(f"{len(config.tasks)} tasks of the suite")
    if config.swap_instruction:
        departures.append("swapped instructions")
    if config.blank_pictures:
        departures.append("black pictures")
    if config.delay or config.chunking != "synchronous":
        departures.append(f"a delay of {config.delay} control steps, {config.chunking}")
    if config.hold > 1:
        departures.append(f"each action held for {config.hold} control steps")
    return replace(
        own,
        episodes=episodes,
        n_action_steps=config.policy.n_action_steps or protocol.replan_steps,
        seed=protocol.seed if config.seed is None else config.seed,
        protocol=protocol.name,
        departures=tuple(departures),
    )


def _episodes(config: EvalConfig, facts: EnvironmentFacts, per_task: int | None = None) -> int:
    """Return the number of episodes, with auto the most; `per_task` is what a protocol says."""
    if isinstance(config.episodes, int):
        return config.episodes
    tasks = max(1, len(facts.tasks))
    if config.episodes == "auto":
        return SEEDS_PER_EVALUATION if config.env == "tabletop" else INITIAL_STATES * tasks
    if config.episodes_per_task is not None:
        return config.episodes_per_task * tasks
    return EPISODES if per_task is None else per_task * tasks


def _whole_rounds(episodes: int, tasks: int) -> int:
    """Return the least number of episodes, not less than these, in which each task has as many."""
    return -(-episodes // max(1, tasks)) * max(1, tasks)
