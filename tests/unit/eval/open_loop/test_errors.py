from __future__ import annotations

import math

import fakes
import numpy as np
import pytest

from pi05.data.lerobot.reader import Dataset
from pi05.eval.open_loop.errors import measure, pair, stitched, t_95, typical_episodes
from pi05.eval.open_loop.looks import Looks, choose_looks

LENGTHS = {0: 20, 1: 13}
TASKS = {0: "reach", 1: "grasp"}
SCALE = np.array([1.0, 2.0, 0.0])


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    root = tmp_path_factory.mktemp("case") / "data"
    fakes.write_dataset(root, episodes=(20, 13), storage="image", height=24, width=24)
    return choose_looks(Dataset(root), [0, 1], stride=4, horizon=8)


def test_a_perfect_policy_has_no_error_and_an_offset_has_its_size(looks: Looks) -> None:
    perfect = measure(looks.actions[None], looks, SCALE, LENGTHS, TASKS)
    assert perfect.whole.score == perfect.executed.score == 0
    assert set(perfect.by_time) == {0.0}
    offset = measure((looks.actions + np.float32(0.5))[None], looks, SCALE, LENGTHS, TASKS)
    assert offset.whole.score == pytest.approx((0.5 + 0.25) / 2, rel=1e-5)
    assert offset.by_episode == pytest.approx({0: 0.375, 1: 0.375}, rel=1e-5)
    assert offset.by_time == pytest.approx([0.375] * 10, rel=1e-5)
    assert offset.spread is None


def test_errors_are_found_where_they_are(looks: Looks) -> None:
    chunks = looks.actions.copy()
    chunks[looks.of(1)] += 1.0  # one episode
    chunks[:, 4:] += 10.0  # after the next look
    found = measure(chunks[None], looks, SCALE, LENGTHS, TASKS)
    assert found.by_episode[0] < found.by_episode[1]
    assert found.by_task == {"reach": found.by_episode[0], "grasp": found.by_episode[1]}
    assert found.whole.by_step[3] < 1 < found.whole.by_step[4]
    assert found.executed.score < 1 < found.whole.score
    late = looks.actions.copy()
    late[looks.steps >= 12] += 1.0
    times = measure(late[None], looks, SCALE, {0: 20, 1: 1000}, TASKS).by_time  # the second one has hardly begun
    assert 0 < times[0] < 0.75
    assert times[5] == 0
    assert times[6:] == pytest.approx([0.75] * 4)


def test_draws_count_alike_and_their_spread_is_told(looks: Looks) -> None:
    chunks = np.stack([looks.actions + np.float32(1), looks.actions - np.float32(1)])
    found = measure(chunks, looks, np.ones(3), LENGTHS, TASKS)
    assert found.whole.score == pytest.approx(1.0, rel=1e-5)
    assert found.spread == pytest.approx(math.sqrt(2), rel=1e-5)


def test_what_is_carried_out_is_one_action_for_each_frame(looks: Looks) -> None:
    steps, actions = stitched(looks.actions, looks, 1)
    assert steps.tolist() == list(range(13))
    np.testing.assert_array_equal(actions[:4], looks.actions[looks.of(1)[0], :4])
    np.testing.assert_array_equal(actions[12], looks.actions[looks.of(1)[3], 0])


def test_pairs_are_episodes() -> None:
    first = {0: 1.0, 1: 2.0, 2: 0.5}
    better = pair("A", "B", first, {0: 0.9, 1: 1.9, 2: 0.39})
    assert (better.mean, better.b_better) == (pytest.approx(-0.10333, abs=1e-4), 3)
    assert better.verdict == "B is closer to the demonstrator"
    assert pair("A", "B", first, {0: 1.1, 1: 2.1, 2: 0.61}).verdict == "A is closer to the demonstrator"
    assert pair("A", "B", first, {0: 0.5, 1: 2.9, 2: 0.5}).verdict == "not settled by these episodes"
    alone = pair("A", "B", {0: 1.0}, {0: 0.5})
    assert (alone.interval, alone.verdict) == (None, "one episode settles nothing")


def test_the_interval_is_student_s(looks: Looks) -> None:
    """By hand: differences -1, 0, 1, 2 have mean 0.5, deviation 1.29099, and t of 3 degrees is 3.182."""
    found = pair("A", "B", dict.fromkeys(range(4), 1.0), {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0})
    assert found.interval == pytest.approx((0.5 - 2.05397, 0.5 + 2.05397), abs=1e-4)
    exact = {1: 12.706, 16: 2.120, 29: 2.045, 59: 2.001, 119: 1.980, 100_000: 1.960}
    assert all(value - 1e-3 <= t_95(freedom) <= 1.03 * value for freedom, value in exact.items())


def test_typical_worst_and_best_are_drawn() -> None:
    errors = {4: 0.1, 7: 0.5, 8: 0.2}
    assert typical_episodes(errors, 3) == [(8, "typical"), (7, "worst"), (4, "best")]
    assert typical_episodes(errors, 1) == [(8, "typical")]
    assert typical_episodes({4: 0.1}, 3) == [(4, "typical")]
    assert typical_episodes({4: 0.1, 7: 0.5}, 3) == [(4, "typical"), (7, "worst")]
