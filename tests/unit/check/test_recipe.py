"""Each finding on the recipe, with a set that must trip it and one that must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from check_subjects import JOINTS, found, make_subject, write_set

from pi05.check.recipe import check_recipe
from pi05.check.subject import Subject
from pi05.data.lerobot.reader import Dataset

ARM = (True, True, True, False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_set(tmp_path_factory.mktemp("sound") / "set")


@pytest.mark.parametrize("relative", [None, ARM])
def test_a_sound_recipe_has_notes_alone(sound: Dataset, relative: tuple[bool, ...] | None) -> None:
    findings = list(check_recipe(make_subject(sound, relative=relative)))
    assert found(findings, "error", "warning") == {}
    assert {"recipe.representation", "recipe.action_kind", "recipe.chunk", "recipe.slots", "recipe.prompt"} <= set(
        found(findings)
    )


def test_without_a_recipe_nothing_is_said(sound: Dataset) -> None:
    assert list(check_recipe(Subject(dataset=sound, episodes=[0]))) == []


def test_relative_dimensions_are_told_by_name(sound: Dataset) -> None:
    told = found(check_recipe(make_subject(sound, relative=ARM)))["recipe.representation"].text
    assert "shoulder" in told.split("as they are")[0]
    assert "gripper" in told.split("as they are")[1]


def test_relative_actions_of_velocities_are_refused(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", change=lambda _, s, a: (s, 10 * np.diff(s, axis=0, append=s[-1:])))
    refused = found(check_recipe(make_subject(dataset, relative=ARM)), "error")
    assert set(refused) == {"recipe.relative_actions"}
    assert "velocities" in refused["recipe.relative_actions"].text
    assert found(check_recipe(make_subject(dataset)), "error", "warning") == {}


def test_dimensions_that_stay_absolute_do_not_count_for_relative_actions(tmp_path: Path) -> None:
    """Three dimensions of steps beside one of targets, which alone is relative."""

    def change(_: int, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        steps = np.diff(states, axis=0, append=states[-1:])
        return states, np.concatenate([actions[:, :1], steps[:, 1:]], axis=1)

    dataset = write_set(tmp_path / "set", change=change)
    assert found(check_recipe(make_subject(dataset, relative=(True, False, False, False))), "error") == {}
    assert found(check_recipe(make_subject(dataset, relative=(False, True, True, True))), "error") != {}


def test_late_actions_are_told_with_their_frames(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", change=lambda _, s, a: (s, a[np.clip(np.arange(len(a)) - 6, 0, None)]))
    warned = found(check_recipe(make_subject(dataset)), "error", "warning")
    assert set(warned) == {"recipe.action_lag"}
    assert "too late" in warned["recipe.action_lag"].text


def test_a_robot_that_follows_within_a_frame_is_not_late(tmp_path: Path) -> None:
    """Between its action and its state there is noise, which goes with no motion."""

    def at_once(episode: int, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.default_rng(episode).normal(0, 1e-3, states.shape)
        return (states + noise).astype(np.float32), states

    dataset = write_set(tmp_path / "set", change=at_once)
    findings = found(check_recipe(make_subject(dataset)))
    assert {name for name, finding in findings.items() if finding.to_mend} == set()
    numbers = findings["recipe.action_kind"].numbers
    assert numbers["follows"] < 0.5
    assert numbers["apart_steps"] < 0.2


@pytest.mark.parametrize(("executed", "warns"), [(10, False), (11, True)])
def test_longer_than_a_second_without_a_look(sound: Dataset, executed: int, warns: bool) -> None:
    warned = found(check_recipe(make_subject(sound, horizon=20, n_action_steps=executed)), "warning")
    assert ("recipe.open_loop" in warned) == warns
    if warns:
        assert "--policy.n_action_steps=10" in warned["recipe.open_loop"].remedy


@pytest.mark.parametrize(("horizon", "warns"), [(10, False), (50, False), (90, True)])
def test_chunks_longer_than_the_episodes(sound: Dataset, horizon: int, warns: bool) -> None:
    subject = make_subject(sound, horizon=horizon)
    warned = found(check_recipe(subject), "warning")
    assert ("recipe.padding" in warned) == warns
    if warns:
        chunks = [sound.action_chunk(i, horizon)[1].mean() for i in range(5 * 60)]
        assert warned["recipe.padding"].numbers["share"] == pytest.approx(np.mean(chunks))


def test_identity_normalisation_of_degrees(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", change=lambda _, s, a: (57.3 * s, 57.3 * a))
    identity = {"STATE": "IDENTITY", "ACTION": "IDENTITY"}
    refused = found(check_recipe(make_subject(dataset, normalization=identity)), "error")
    assert set(refused) == {"recipe.range_state", "recipe.range_action"}
    assert all(f"({JOINTS[0]})" in finding.text for finding in refused.values())
    for mode in ("QUANTILES", "MEAN_STD"):
        assert not found(check_recipe(make_subject(dataset, normalization=dict.fromkeys(identity, mode))), "error")


@pytest.mark.parametrize(("frames", "errs"), [(1, False), (2, True)])
def test_single_values_far_outside(tmp_path: Path, frames: int, errs: bool) -> None:
    """One broken frame costs a few chunks; several are in every batch."""

    def broken(episode: int, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        action = action.copy()
        if episode < frames:
            action[len(action) // 2, 0] = 1e4
        return state, action

    dataset = write_set(tmp_path / "set", change=broken)
    errors = found(check_recipe(make_subject(dataset, horizon=2)), "error")
    assert ("recipe.far_action" in errors) == errs
    if errs:
        assert set(errors["recipe.far_action"].numbers["share"]) == {"0"}
