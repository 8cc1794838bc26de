"""A base tells which pictures it knows: real demonstrations of its own simulator, as they are and turned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from check_subjects import found, make_subject, write_set

from pi05.check.real_batches import batches_of
from pi05.check.subject import Subject
from pi05.check.turned_pictures import UNDONE, TurnEffect, _turned, judge_turns, measure_turns
from pi05.checkpoint.load import load_model
from pi05.data.config import DatasetConfig
from pi05.data.lerobot.reader import Dataset
from pi05.model.pi05 import Pi05
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.train.checked import base_network
from pi05.train.checked.base_network import look_at_network
from pi05.train.config import TINY_BASE, PolicyConfig, TrainConfig
from pi05.types import Batch

FRAMES = 24
CAMERA, WRIST = "observation.images.scene", "observation.images.wrist"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("known") / "set"
    collect_demonstrations(expert_maker(DemonstrationChoice(family="base")), 8, folder, first_seed=5000)
    return make_subject(Dataset(folder), held_out=(7,))


@pytest.fixture(scope="module")
def batches(subject: Subject) -> list[Batch]:
    return batches_of(subject, FRAMES, 8)


@pytest.fixture(scope="module")
def base() -> Pi05:
    return load_model(TINY_BASE)


def altered(batches: list[Batch], place: int, turn: str) -> list[Batch]:
    return [replace(batch, images=_turned(batch.images, place, UNDONE[turn])) for batch in batches]


def measured(base: Pi05, batches: list[Batch]) -> list[TurnEffect]:
    return measure_turns(base, batches, (CAMERA, WRIST), action_dims=3)


def test_pictures_as_the_base_knows_them_are_no_finding(base: Pi05, batches: list[Batch]) -> None:
    assert list(judge_turns(measured(base, batches), FRAMES)) == []


@pytest.mark.parametrize("turn", list(UNDONE))
def test_a_scene_that_is_turned_in_all_episodes_is_named(base: Pi05, batches: list[Batch], turn: str) -> None:
    (finding,) = judge_turns(measured(base, altered(batches, 0, turn)), FRAMES)
    assert finding.name == "base.knows_turned_pictures"
    assert finding.status == "warning"
    assert finding.numbers["camera"] == CAMERA
    assert finding.numbers["turn"] == turn
    assert f"{CAMERA}: on {FRAMES} frames" in finding.text


def test_of_a_scene_that_the_base_does_not_know_nothing_is_said(base: Pi05, tmp_path: Path) -> None:
    unknown = make_subject(write_set(tmp_path / "set", cameras=("front",)))
    effects = measure_turns(base, batches_of(unknown, FRAMES, 8), ("front",), action_dims=4)
    assert len(effects) == len(UNDONE)
    assert list(judge_turns(effects, FRAMES)) == []


def test_a_camera_that_is_missing_is_left_out_and_only_what_is_asked_is_measured(
    base: Pi05, batches: list[Batch]
) -> None:
    few = batches[:1]
    mask = torch.ones(len(few[0].images), 2, dtype=torch.bool)
    mask[:, 1] = False
    effects = measured(base, [replace(few[0], image_mask=mask)])
    assert {effect.camera for effect in effects} == {CAMERA}
    again = measure_turns(base, few, (CAMERA, WRIST), action_dims=3, only=effects[1:2])
    assert [(effect.camera, effect.turn) for effect in again] == [(CAMERA, effects[1].turn)]


def settings(subject: Subject) -> TrainConfig:
    policy = PolicyConfig(path=str(TINY_BASE), device="cpu")
    return TrainConfig(dataset=DatasetConfig(root=str(subject.dataset.root)), policy=policy)


def test_the_check_looks_at_more_frames_only_where_a_few_raise_a_suspicion(
    subject: Subject, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def prepared(of: Subject, samples: int = 16) -> list[Batch]:
        asked.append(samples)
        return altered(batches, 0, turn) if turn else batches

    monkeypatch.setattr(base_network, "batches_of", prepared)
    turn = ""
    assert "base.knows_turned_pictures" not in found(look_at_network(settings(subject), subject))
    turn = "upside down"
    asked.clear()
    assert "base.knows_turned_pictures" in found(look_at_network(settings(subject), subject), "warning")
    assert asked == [16, base_network.FRAMES]
