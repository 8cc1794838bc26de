"""Held-out episodes that were trained on: copies in the set, and a base that has seen them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_subjects import found, make_subject, write_set

from pi05.check.recipe import check_recipe
from pi05.check.subject import Base
from pi05.data.lerobot.identity import hash_numbers


def test_a_copy_on_both_sides_is_named(tmp_path: Path) -> None:
    kept: dict[int, Any] = {}

    def copy(episode: int, states: Any, actions: Any) -> Any:
        kept[episode] = states, actions
        return kept[2] if episode == 5 else (states, actions)

    subject = make_subject(write_set(tmp_path / "set", change=copy))
    refused = found(check_recipe(subject), "error")
    assert set(refused) == {"recipe.held_out_twice"}
    assert refused["recipe.held_out_twice"].numbers["pairs"] == [(5, 2)]
    assert "exclude_episodes='[5]'" in refused["recipe.held_out_twice"].remedy
    both_trained = make_subject(subject.dataset, held_out=[0])
    assert found(check_recipe(both_trained), "error") == {}


def test_a_piece_on_both_sides_is_named(tmp_path: Path) -> None:
    """One that was trimmed: six rows less at its beginning."""

    def cut(episode: int, states: Any, actions: Any) -> Any:
        rng = np.random.default_rng(2 if episode == 5 else episode)
        walk = np.cumsum(rng.normal(size=(2, 200, states.shape[1])), axis=1).astype(np.float32)
        begin = 6 if episode == 5 else 0
        return walk[0, begin : begin + len(states)], walk[1, begin : begin + len(actions)]

    refused = found(check_recipe(make_subject(write_set(tmp_path / "set", change=cut))), "error")
    assert refused["recipe.held_out_twice"].numbers["pairs"] == [(5, 2)]


@pytest.mark.parametrize(
    ("frames", "trained", "warns"),
    [(360, [0, 5], True), (300, [0, 4], False), (360, [0, 1], False), (None, [0, 5], False)],
)
def test_a_base_that_saw_what_is_held_out(tmp_path: Path, frames: int | None, trained: list[int], warns: bool) -> None:
    """Also where the set has grown since; not where the numbers are others."""
    dataset = write_set(tmp_path / "set")
    numbers = "0" * 64 if frames is None else hash_numbers(dataset, frames)
    base = Base(
        path="base", trained_on={"frames": frames or 360, "numbers": numbers, "train_episodes": trained, "held_out": []}
    )
    warned = found(check_recipe(make_subject(dataset, base=base)), "warning")
    assert ("recipe.base_saw_held_out" in warned) == warns


def test_a_base_of_the_shorter_set_is_recognised(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set")
    told = {"frames": 300, "numbers": hash_numbers(dataset, 300), "train_episodes": [0, 3], "held_out": []}
    subject = make_subject(dataset, held_out=[3], base=Base(path="base", trained_on=told))
    assert "before it grew" in found(check_recipe(subject), "warning")["recipe.base_saw_held_out"].text
