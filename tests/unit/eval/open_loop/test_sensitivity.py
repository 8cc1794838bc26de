from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fake_policies import CAMERAS, make_policy
from recorded_cases import Demonstrator, Recorded

from pi05.checkpoint.locate import locate
from pi05.checkpoint.policy_folder import read_transforms
from pi05.data.lerobot.reader import Dataset
from pi05.data.processor import Processor
from pi05.eval.open_loop.looks import Looks, choose_looks
from pi05.eval.open_loop.predict import predict
from pi05.eval.open_loop.sensitivity import Sensitivity, measure_sensitivity
from pi05.types import STATE, TASK

SCALE = np.ones(3)


@pytest.fixture
def processor(case: Recorded) -> Processor:
    return read_transforms(locate(case.checkpoint))[0].processor


@pytest.fixture
def looks(dataset: Dataset) -> Looks:
    return choose_looks(dataset, [3, 4], 5, 10)


def of(policy: Demonstrator, processor: Processor, looks: Looks, most: int = 4) -> Sensitivity:
    def answer(seen: Callable[[int], dict[str, Any]], frames: Any) -> np.ndarray:
        return predict(policy, seen, frames, draws=0, seed=0, num_steps=1, batch_size=3)[0]

    found = measure_sensitivity(answer, policy.dataset, processor, looks, SCALE, most=most)
    assert found is not None
    return found


def test_a_policy_that_reads_the_state_alone_is_seen_through(
    dataset: Dataset, processor: Processor, looks: Looks
) -> None:
    found = of(Demonstrator(dataset), processor, looks)
    assert found.frames == 4
    assert found.whole == 0
    changes = [(effect.input, effect.change) for effect in found.effects]
    assert changes == [
        *[(camera, change) for camera in ("scene", "wrist") for change in ("black", "picture of another moment")],
        ("state", "middle of its range"),
        ("state", "that of another moment"),
        ("instruction", "that of another task"),
    ]
    assert found.unread == ["scene", "wrist", "instruction"]
    assert all(
        effect.moved > 0.1 and effect.score == pytest.approx(effect.moved, rel=0.2)
        for effect in found.effects
        if effect.input == "state"
    )


def test_a_blind_policy_shows_no_sensitivity(dataset: Dataset, processor: Processor, looks: Looks) -> None:
    found = of(Demonstrator(dataset, blind=True), processor, looks)
    assert {effect.moved for effect in found.effects} == {0.0}
    assert found.unread == ["scene", "wrist", "state", "instruction"]


def test_one_input_is_changed_at_a_time(dataset: Dataset, processor: Processor, looks: Looks) -> None:
    policy = Demonstrator(dataset)
    of(policy, processor, looks, most=2)
    shown = [policy.asked[i : i + 2] for i in range(0, len(policy.asked), 2)]
    whole, black, other, _, _, hidden, exchanged, told = (pair[0] for pair in shown)
    second = shown[0][1]
    assert not black[CAMERAS[0]].any()
    np.testing.assert_array_equal(other[CAMERAS[0]], second[CAMERAS[0]])
    np.testing.assert_allclose(hidden[STATE], [0, 0, 0.5], atol=1e-6)
    np.testing.assert_array_equal(exchanged[STATE], second[STATE])
    assert told[TASK] != whole[TASK]
    for changed, names in ((black, CAMERAS[:1]), (other, CAMERAS[:1]), (hidden, (STATE,)), (told, (TASK,))):
        for name in {*whole} - {*names}:
            np.testing.assert_array_equal(changed[name], whole[name])


def test_a_state_that_the_prompt_does_not_hold_is_not_tried(
    dataset: Dataset, processor: Processor, looks: Looks
) -> None:
    found = of(Demonstrator(dataset), replace(processor, prompt_format="none"), looks)
    assert "state" not in {effect.input for effect in found.effects}
    assert found.left_out == ("the state: this policy's prompt does not hold it",)


def test_relative_actions_do_not_show_the_state_that_they_are_added_to(
    dataset: Dataset, looks: Looks, tmp_path: Path
) -> None:
    policy = make_policy(fakes.write_tokenizer(tmp_path / "tokenizer.json"), relative_mask=(True, True, False))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.zero_()  # answers with the state itself, and the middle of the third range

    def answer(seen: Callable[[int], dict[str, Any]], frames: Any) -> np.ndarray:
        return predict(policy, seen, frames, draws=0, seed=0, num_steps=1, batch_size=4)[0]

    found = measure_sensitivity(answer, dataset, policy.processor, looks, SCALE, most=4)
    assert found is not None
    assert found.unread == ["scene", "wrist", "state", "instruction"]
    assert max(effect.moved for effect in found.effects) < 1e-6


def test_none_is_wanted(dataset: Dataset, processor: Processor, looks: Looks) -> None:
    assert measure_sensitivity(lambda *_: np.zeros((1, 1, 1)), dataset, processor, looks, SCALE, most=0) is None
