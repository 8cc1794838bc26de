from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
from fake_policies import make_policy

from pi05.data.lerobot.reader import Dataset
from pi05.data.measures.ablations import UNRELATED, as_from, hidden_state, moved, other_tasks
from pi05.data.processor import Processor


@pytest.fixture
def processor(tmp_path: Path) -> Processor:
    return make_policy(fakes.write_tokenizer(tmp_path / "tokenizer.json")).processor


def written(folder: Path, **settings: object) -> Dataset:
    fakes.write_dataset(folder / "data", storage="image", state_dim=3, height=24, width=24, **settings)  # type: ignore[arg-type]
    return Dataset(folder / "data")


def test_a_hidden_state_is_in_the_middle_of_its_range(processor: Processor) -> None:
    np.testing.assert_allclose(hidden_state(processor), [0.0, 0.0, 0.5], atol=1e-6)


def test_each_task_is_exchanged_for_another(tmp_path: Path, processor: Processor) -> None:
    one, other = fakes.TASKS
    assert other_tasks(written(tmp_path), processor, [0, 14]) == {one: other, other: one}


def test_a_single_task_is_exchanged_for_an_unrelated_one(tmp_path: Path, processor: Processor) -> None:
    assert other_tasks(written(tmp_path, tasks=("a_task",)), processor, [0]) == {"a_task": UNRELATED}


def test_where_no_other_task_fits_into_the_prompt_there_is_none(tmp_path: Path, processor: Processor) -> None:
    assert other_tasks(written(tmp_path, tasks=("short", "word " * 500)), processor, [0]) is None


def test_relative_actions_do_not_count_as_moved_because_the_state_was() -> None:
    own, told = np.array([[1.0, 2.0]]), np.array([[5.0, 2.0]])
    chunk = np.ones((1, 4, 2))
    shifted = chunk + np.array([4.0, 0.0])  # the policy has added the state that it was told
    np.testing.assert_allclose(as_from(shifted, told, own, (True, False)), chunk)
    assert as_from(shifted, told, own, None) is shifted
    assert moved(shifted, chunk, np.array([2.0, 1.0])) == pytest.approx((4.0 / 2 + 0) / 2)
