from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_robot import Workshop

from pi05.errors import EvaluationError
from pi05.eval.config import FIRST_EVALUATION_SEED, EvalConfig
from pi05.eval.film import Gallery
from pi05.eval.rollout import run_episodes
from pi05.policy_choice import ChosenPolicy


def settings(**changes: Any) -> EvalConfig:
    return EvalConfig(**{"episodes": 6, "num_envs": 6, **changes})


def test_the_expert_succeeds_and_idleness_fails(expert: Any, lazy: Any, open_tabletop: Any) -> None:
    episodes = run_episodes(expert(), lambda: open_tabletop("demo"), settings())
    assert [e.outcome for e in episodes] == ["success"] * 6
    assert [e.seed for e in episodes] == [FIRST_EVALUATION_SEED + i for i in range(6)]
    assert all(e.asked == e.instruction and e.swapped_success is None for e in episodes)
    idle = run_episodes(lazy(), lambda: open_tabletop("demo", max_steps=5), settings())
    assert [(e.outcome, e.steps) for e in idle] == [("failure", 5)] * 6


def test_the_number_of_environments_changes_nothing(expert: Any, open_tabletop: Any) -> None:
    def run(num_envs: int, seed: int = 0) -> Any:
        actor, gallery = expert(clumsy=-1.0), Gallery(limit=2)
        make = lambda: open_tabletop("demo", max_steps=24)  # noqa: E731
        return run_episodes(actor, make, settings(episodes=10, num_envs=num_envs, seed=seed), gallery=gallery), gallery

    alone, films = run(1)
    assert {e.outcome for e in alone} == {"success", "failure"}  # the noise decides: else the test proves nothing
    for num_envs in (3, 10, 64):
        episodes, gallery = run(num_envs)
        assert episodes == alone
        assert sorted(gallery.films) == sorted(films.films)
    assert run(10, seed=1)[0] != alone


def test_each_episode_and_each_chunk_has_noise_of_its_own(lazy: Any, open_tabletop: Any) -> None:
    def noise(num_envs: int, seed: int) -> np.ndarray:
        """Return the noise as [episode, chunk, horizon, dimension]."""
        actor = lazy()
        config = settings(episodes=4, num_envs=num_envs, seed=seed)
        run_episodes(actor, lambda: open_tabletop("demo", max_steps=3), config)
        rounds = [np.stack(actor.noise[i : i + 3], axis=1) for i in range(0, len(actor.noise), 3)]
        return np.concatenate(rounds)

    together = noise(4, 0)
    assert together.shape == (4, 3, 2, 32)
    assert len({chunk.tobytes() for episode in together for chunk in episode}) == 12
    np.testing.assert_array_equal(noise(1, 0), together)
    np.testing.assert_array_equal(noise(2, 0), together)
    assert not np.isclose(noise(4, 1), together).any(axis=(2, 3)).all()


def test_environments_run_in_lockstep(expert: Any, lazy: Any, open_tabletop: Any) -> None:
    actor = lazy()
    run_episodes(actor, lambda: open_tabletop("demo", max_steps=4), settings(episodes=5, num_envs=2))
    assert actor.batch_sizes == [2] * 4 + [2] * 4 + [1] * 4


def test_the_policy_looks_again_after_n_action_steps(lazy: Any, open_tabletop: Any) -> None:
    class Chunks(lazy):  # type: ignore[misc]
        def _chunk(self, observation: dict[str, Any], noise: np.ndarray) -> np.ndarray:
            return np.repeat(observation["observation.state"][None], 10, axis=0)

    for wanted, calls in ((5, 3), (4, 3), (10, 2), (1, 12)):
        actor = Chunks()
        config = settings(episodes=1, policy=ChosenPolicy(n_action_steps=wanted))
        (episode,) = run_episodes(actor, lambda: open_tabletop("demo", max_steps=12), config)
        assert (episode.steps, len(actor.batch_sizes)) == (12, calls)


def test_simulator_exceptions_end_their_episode_only(expert: Any, broken_tabletop: Any) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(broken_tabletop("demo"))
        return made[-1]

    episodes = run_episodes(expert(), make, settings(num_envs=2))
    assert [e.outcome for e in episodes] == ["success", "error"] * 3
    assert episodes[1].error == "step 2: FloatingPointError: the solver diverged"
    assert episodes[1].steps == 2
    assert episodes[1].repeated == episodes[1].error
    assert episodes[0].repeated is None
    assert len(made) > 2  # a simulator that failed is not used again


def test_a_reset_that_fails_is_an_exception_of_the_simulator(expert: Any, open_tabletop: Any) -> None:
    class NoLayout(open_tabletop):  # type: ignore[misc]
        def reset(self, seed: int, task: str | None = None) -> None:
            if seed == FIRST_EVALUATION_SEED + 1:
                raise RuntimeError("no place is left")
            super().reset(seed, task)

    episodes = run_episodes(expert(), lambda: NoLayout("demo"), settings(episodes=3))
    assert [e.outcome for e in episodes] == ["success", "error", "success"]
    assert episodes[1].error == "reset: RuntimeError: no place is left"


def test_tasks_take_turns_and_each_begins_at_the_first_seed(lazy: Any) -> None:
    class Stay(lazy):  # type: ignore[misc]
        def _chunk(self, observation: dict[str, Any], noise: np.ndarray) -> np.ndarray:
            return np.repeat(observation["observation.state"][None, :7], 4, axis=0)

    workshop = Workshop(broken_seeds={FIRST_EVALUATION_SEED + 1})
    config = settings(episodes=5, num_envs=2, policy=ChosenPolicy(n_action_steps=4))
    episodes = run_episodes(Stay(), workshop.robot, config)
    assert [e.seed - FIRST_EVALUATION_SEED for e in episodes] == [0, 0, 1, 1, 2]
    assert [e.instruction for e in episodes] == ["turn left", "turn right"] * 2 + ["turn left"]
    assert [e.outcome for e in episodes] == ["failure", "failure", "error", "error", "failure"]
    assert [robot.closings for robot in workshop.robots] == [1] * 5  # the two that fail, fail twice
    assert sum(robot.looks for robot in workshop.robots) == 3 * 3 + 4  # once for each chunk, not for each step


def test_what_the_policy_raises_is_raised(expert: Any, open_tabletop: Any) -> None:
    class Broken(expert):  # type: ignore[misc]
        def infer_batch(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_episodes(Broken(), lambda: open_tabletop("demo"), settings())


def test_actions_that_are_not_finite_are_the_policy_s_fault(expert: Any, open_tabletop: Any) -> None:
    class Lost(expert):  # type: ignore[misc]
        n_action_steps = 2

    with pytest.raises(EvaluationError, match=r"not finite numbers\n.*episode 0 at step 0"):
        run_episodes(Lost(), lambda: open_tabletop("demo"), settings())


def test_a_swapped_instruction_is_heeded_or_not(expert: Any, open_tabletop: Any) -> None:
    config = settings(swap_instruction=True)
    heard = run_episodes(expert(), lambda: open_tabletop("demo"), config)
    assert all(e.asked != e.instruction for e in heard)
    assert [(e.outcome, e.swapped_success) for e in heard] == [("failure", True)] * 6
    deaf = run_episodes(expert(deaf=True), lambda: open_tabletop("demo"), config)
    assert [(e.outcome, e.swapped_success) for e in deaf] == [("success", False)] * 6
    assert [e.asked for e in deaf] == [e.asked for e in heard]
    assert [e.instruction for e in deaf] == [
        e.instruction for e in run_episodes(expert(), lambda: open_tabletop("demo"), settings())
    ]


def test_layouts_without_another_goal_are_passed_over(expert: Any, open_tabletop: Any) -> None:
    class Lonely(open_tabletop):  # type: ignore[misc]
        def reset(self, seed: int, task: str | None = None) -> None:
            super().reset(seed, task)
            if seed < 2 * FIRST_EVALUATION_SEED:
                self.goals = [self.goal]

    episodes = run_episodes(expert(), lambda: Lonely("demo"), settings(episodes=2, swap_instruction=True))
    assert all(e.seed > 2 * FIRST_EVALUATION_SEED and e.asked != e.instruction for e in episodes)

    class Mute(open_tabletop):  # type: ignore[misc]
        def reset(self, seed: int, task: str | None = None) -> None:
            super().reset(seed, task)
            self.goals = [self.goal]

    with pytest.raises(EvaluationError, match="allow no other goal"):
        run_episodes(expert(), lambda: Mute("demo"), settings(episodes=1, swap_instruction=True))


def test_films_are_kept_of_the_first_episodes(expert: Any, broken_tabletop: Any) -> None:
    gallery = Gallery(limit=2)
    episodes = run_episodes(
        expert(), lambda: broken_tabletop("demo"), settings(episodes=8, num_envs=3), gallery=gallery
    )
    assert sorted(gallery.films) == [0, 1, 2, 3]
    assert [film.episode.index for film in gallery.of("success")] == [0, 2]
    for film in gallery.of("success"):
        assert len(film.frames) == episodes[film.episode.index].steps + 1
        assert film.frames[0].shape == (96, 96, 3)
