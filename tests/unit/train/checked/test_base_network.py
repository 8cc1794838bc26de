"""`pi05 check` runs a base on real frames: sound weights, broken ones, too many for a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from check_subjects import found, make_subject, write_set

from pi05.check.network import measure_base
from pi05.check.real_batches import batches_of
from pi05.check.subject import Subject
from pi05.checkpoint.load import load_model
from pi05.checkpoint.store import Checkpoint, load_checkpoint, save_checkpoint
from pi05.data.config import DatasetConfig
from pi05.train.checked import base_network
from pi05.train.checked.base_network import look_at_network
from pi05.train.config import TINY_BASE, PolicyConfig, TrainConfig


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(write_set(tmp_path_factory.mktemp("net") / "set", cameras=("front",), length=20))


def settings(subject: Subject, path: Path | None, **more: object) -> TrainConfig:
    policy = PolicyConfig(path=None if path is None else str(path), device="cpu")
    return TrainConfig(dataset=DatasetConfig(root=str(subject.dataset.root)), policy=policy, **more)  # type: ignore[arg-type]


def test_the_packaged_base_is_sound(subject: Subject) -> None:
    assert set(found(look_at_network(settings(subject, TINY_BASE), subject))) == {"base.network"}


def test_a_base_whose_embedding_is_scaled_already(subject: Subject, tmp_path: Path) -> None:
    stored = load_checkpoint(TINY_BASE)
    weights = {name: value * 11.3 if name == "embedding.weight" else value for name, value in stored.weights.items()}
    broken = Checkpoint(
        config=stored.config,
        weights=weights,
        tokenizer_name=stored.tokenizer_name,
        tokenizer_bytes=stored.tokenizer_bytes,
    )
    folder = save_checkpoint(tmp_path / "base", broken)
    assert "base.embedding_scale" in found(look_at_network(settings(subject, folder), subject), "error")


def test_without_a_base_there_is_nothing_to_look_at(subject: Subject) -> None:
    assert look_at_network(settings(subject, None, from_scratch=True, network="tiny"), subject) == []


def test_a_large_base_is_not_run_on_a_cpu(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_network, "LARGEST_ON_CPU", 1000)
    assert set(found(look_at_network(settings(subject, TINY_BASE), subject), "note")) == {"base.not_measured"}


def test_batches_are_what_training_would_make(subject: Subject) -> None:
    batches = batches_of(subject, samples=6, size=4)
    assert [len(batch.tokens) for batch in batches] == [4, 2]
    assert subject.recipe is not None
    first, dataset, processor = batches[0], subject.dataset, subject.recipe.processor
    chunk, padded = dataset.action_chunk(0, processor.horizon)
    wanted = processor.encode_actions(chunk, dataset.states()[0])
    assert first.actions is not None
    assert torch.equal(first.actions[0], torch.from_numpy(wanted))
    assert first.action_mask is not None
    assert first.action_mask[0].tolist() == (~padded).tolist()
    assert measure_base(load_model(TINY_BASE), batches, action_dims=4).samples == 6
