from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from recorded_cases import EPISODES, Recorded

from pi05.data.lerobot.identity import hash_numbers
from pi05.data.lerobot.reader import Dataset
from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig, EvalDatasetConfig
from pi05.eval.open_loop.candidate import Candidate, read_candidates
from pi05.eval.open_loop.episodes import choose_episodes, listed


@pytest.fixture
def candidate(case: Recorded) -> Candidate:
    config = EvalConfig(dataset=EvalDatasetConfig(root=str(case.data)))
    return read_candidates(config, [str(case.checkpoint)])[0]


def with_record(candidate: Candidate, name: str = "policy", **changes: Any) -> Candidate:
    assert candidate.record is not None
    return replace(candidate, name=name, record=replace(candidate.record, **changes))


def test_held_out_is_what_the_run_has_noted(dataset: Dataset, candidate: Candidate) -> None:
    chosen = choose_episodes("held-out", dataset, [candidate])
    assert (chosen.numbers, chosen.reference) == ((3,), (0, 1, 2, 4))
    assert chosen.trained_on == {"policy": ()}
    assert chosen.warnings == []


def test_what_was_trained_on_is_told_loudly(dataset: Dataset, candidate: Candidate) -> None:
    everything = choose_episodes("all", dataset, [candidate])
    assert everything.numbers == tuple(range(len(EPISODES)))
    assert everything.reference == (0, 1, 2, 4)
    assert "4 of 5 episodes were trained on by the policy (0, 1, 2, 4)" in everything.warnings[0]
    given = choose_episodes((1, 4), dataset, [candidate])
    assert given.asked == "given"
    assert given.warnings[0].startswith("these episodes were trained on by the policy (1, 4)")
    both = choose_episodes((1,), dataset, [with_record(candidate, "A"), with_record(candidate, "B")])
    assert len(both.warnings) == 1
    assert "by A and B" in both.warnings[0]


def test_without_a_record_nobody_knows(dataset: Dataset, candidate: Candidate) -> None:
    silent = replace(candidate, record=None)
    with pytest.raises(EvaluationError, match=r"does not tell which episodes(.|\n)*--episodes='\[3, 17\]'"):
        choose_episodes("held-out", dataset, [silent])
    given = choose_episodes((1, 4), dataset, [silent])
    assert given.reference == (0, 2, 3)
    assert given.trained_on == {"policy": None}
    assert "nobody knows whether the policy was trained on" in given.warnings[0]
    assert choose_episodes("all", dataset, [silent]).reference == (0, 1, 2, 3, 4)


def test_the_record_counts_on_the_data_set_that_the_run_has_seen_alone(dataset: Dataset, candidate: Candidate) -> None:
    other = with_record(candidate, data={"numbers": "other", "frames": 7})
    with pytest.raises(EvaluationError, match=r"not the data set(.|\n)*the 7 frames"):
        choose_episodes("held-out", dataset, [other])
    assert choose_episodes((3,), dataset, [other]).trained_on == {"policy": None}
    assert choose_episodes((3,), dataset, [other]).reference == (0, 1, 2, 4)


def test_a_data_set_that_has_grown_is_still_that_of_the_run(dataset: Dataset, candidate: Candidate) -> None:
    shorter = sum(EPISODES[:4])
    earlier = with_record(
        candidate, data={"numbers": hash_numbers(dataset, shorter), "frames": shorter}, train=(0, 1, 2), held_out=(3,)
    )
    assert choose_episodes("held-out", dataset, [earlier]).numbers == (3,)
    assert choose_episodes((2, 4), dataset, [earlier]).trained_on == {"policy": (2,)}  # the last one is new


def test_a_run_without_held_out_episodes_and_runs_with_different_ones(dataset: Dataset, candidate: Candidate) -> None:
    with pytest.raises(EvaluationError, match="held no episode out"):
        choose_episodes("held-out", dataset, [with_record(candidate, held_out=())])
    a = with_record(candidate, "A", held_out=(1, 3), train=(0, 2, 4))
    b = with_record(candidate, "B", held_out=(3, 4), train=(0, 1, 2))
    with pytest.raises(EvaluationError, match=r"different episodes(.|\n)*--episodes='\[3\]'"):
        choose_episodes("held-out", dataset, [a, b])
    apart = with_record(candidate, "B", held_out=(2,), train=(0, 1, 3, 4))
    with pytest.raises(EvaluationError, match="evaluate one at a time"):
        choose_episodes("held-out", dataset, [a, apart])


def test_numbers_of_no_episode_are_refused(dataset: Dataset, candidate: Candidate) -> None:
    with pytest.raises(EvaluationError, match=r"0 to 4\n  found:  5, 9"):
        choose_episodes((1, 5, 9), dataset, [candidate])


def test_many_episodes_are_listed_shortly() -> None:
    assert listed(range(14)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"
