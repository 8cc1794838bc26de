from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pi05.errors import EvaluationError
from pi05.eval import records
from pi05.eval.config import EvalConfig
from pi05.eval.episode import EpisodeResult, Spent
from pi05.eval.film import Film
from pi05.eval.records import Records
from pi05.eval.rollout import Ended
from pi05.policy_choice import ChosenPolicy

POLICY = {"path": "run", "step": 7}


def ended(index: int, frames: int = 3) -> Ended:
    result = EpisodeResult(
        index=index, seed=index, instruction="größer", asked="größer", outcome="success", steps=4, task="t"
    )
    pictures = [np.full((4, 5, 3), 10 * index + i, np.uint8) for i in range(frames)]
    return Ended(result=result, film=Film(result, pictures, 2), spent=Spent(policy_s=0.5, steps=4))


def begun(folder: Path) -> Path:
    records.begin(folder, EvalConfig().to_dict(), POLICY)
    return folder


def test_what_several_processes_append_is_read_in_order(tmp_path: Path) -> None:
    begun(tmp_path)
    for rank, indices in ((1, (3, 1)), (0, (2, 0))):
        with Records(tmp_path, rank) as kept:
            for index in indices:
                kept.append(ended(index), film=index != 2)
    back = list(records.read(tmp_path))
    assert [one.result for one in back] == [ended(index).result for index in range(4)]
    assert [one.spent for one in back] == [ended(0).spent] * 4
    np.testing.assert_array_equal(np.stack(back[3].film.frames), np.stack(ended(3).film.frames))
    assert (back[3].film.stride, len(back[2].film.frames)) == (2, 0)
    assert list(records.finished(tmp_path)) == [0, 1, 2, 3]
    records.finish(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lines", [0, 2])
def test_a_torn_line_costs_its_own_episode_only(lines: int, tmp_path: Path) -> None:
    begun(tmp_path)
    with Records(tmp_path, 0) as kept:
        for index in range(lines):
            kept.append(ended(index), film=False)
    with (tmp_path / "partial" / "episodes-0.jsonl").open("ab") as file:
        file.write(b'{"result": {"index": 9')
    assert list(records.finished(tmp_path)) == list(range(lines))
    with Records(tmp_path, 0) as kept:
        kept.append(ended(5), film=False)
    assert list(records.finished(tmp_path)) == [*range(lines), 5]


def test_only_what_changes_no_result_may_be_another_when_it_goes_on(tmp_path: Path) -> None:
    begun(tmp_path)
    other = EvalConfig(workers=3, num_envs=2, threads=1, resume=True, policy=ChosenPolicy(device="cpu"))
    records.require_same(tmp_path, other.to_dict(), POLICY)
    with pytest.raises(EvaluationError, match=r"another setting\n  wanted: seed = None, as begun\n  found:  1"):
        records.require_same(tmp_path, EvalConfig(seed=1).to_dict(), POLICY)
    with pytest.raises(EvaluationError, match=r"another policy\n  wanted: step = 7, as begun\n  found:  8"):
        records.require_same(tmp_path, EvalConfig().to_dict(), {**POLICY, "step": 8})


def test_errors_are_forgotten_so_that_they_are_carried_out_again(tmp_path: Path) -> None:
    begun(tmp_path)
    with Records(tmp_path, 0) as kept:
        for index in range(4):
            one = ended(index)
            result = replace(one.result, outcome="error" if index % 2 else "success")
            kept.append(replace(one, result=result), film=False)
    records.forget_errors(tmp_path)
    assert list(records.finished(tmp_path)) == [0, 2]
    with Records(tmp_path, 0) as kept:
        kept.append(ended(3), film=False)
    assert list(records.finished(tmp_path)) == [0, 2, 3]
