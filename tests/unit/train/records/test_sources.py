"""A run's names become folders once; its record holds where they are from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from fake_hub import FakeHub, content
from fetching import FILES, no_sockets, use_home

from pi05.data.config import DatasetConfig
from pi05.errors import CheckpointError
from pi05.sources.names import PALIGEMMA
from pi05.train.config import TrainConfig
from pi05.train.policy_config import PolicyConfig
from pi05.train.records.sources import describe_sources, settle_sources

BASE, DATA = "lerobot/pi05_base", "lab/cubes"
STEP = {"registry_name": "tokenizer_processor", "config": {"tokenizer_name": PALIGEMMA}}
NAMED = {**FILES, "policy_preprocessor.json": json.dumps({"steps": [STEP]}).encode()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    use_home(monkeypatch, tmp_path / "home")
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    fakes.write_dataset(tmp_path / "data", episodes=(3, 3))
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.publish(BASE, NAMED)
        server.publish(PALIGEMMA, {"tokenizer.json": b"{}"})
        server.publish(f"datasets/{DATA}", content(tmp_path / "data"))
        yield server


def config(**policy: object) -> TrainConfig:
    settings = PolicyConfig(**{"path": BASE, **policy})  # type: ignore[arg-type]
    return replace(TrainConfig(), dataset=DatasetConfig(repo_id=DATA), policy=settings)


def test_names_become_folders_once(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = settle_sources(config())
    for path in (settled.dataset.root, settled.policy.path, settled.policy.tokenizer_path):
        assert path is not None
        assert Path(path).is_dir()
    assert settled.dataset.repo_id == DATA
    with no_sockets(monkeypatch):
        assert settle_sources(settled) == settled
        assert settle_sources(config()) == settled, "from the cache"
    record = describe_sources(settled)
    assert {what: facts["name"] for what, facts in record.items()} == {
        "base": BASE,
        "dataset": DATA,
        "tokenizer": PALIGEMMA,
    }
    assert record["base"]["commit"] == hub.repositories[BASE].sha("main")


def test_a_tokenizer_that_is_given_or_lies_in_the_base_goes_first(hub: FakeHub, tmp_path: Path) -> None:
    del hub.repositories[PALIGEMMA]
    given = fakes.write_tokenizer(tmp_path / "tokenizer.json")
    assert settle_sources(config(tokenizer_path=str(given))).policy.tokenizer_path == str(given)
    hub.publish("lab/whole", {**NAMED, "tokenizer/tokenizer.json": b"{}"})
    assert settle_sources(config(path="lab/whole")).policy.tokenizer_path is None


def test_a_tokenizer_out_of_reach_is_told_before_the_weights_travel(hub: FakeHub) -> None:
    hub.publish(PALIGEMMA, {"tokenizer.json": b"{}"}, gated=True)
    with pytest.raises(CheckpointError, match=f"{PALIGEMMA} is not in reach"):
        settle_sources(config())
    assert not hub.asked("GET", "model.safetensors")


def test_a_plan_fetches_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_sockets(monkeypatch):
        assert settle_sources(config(), here_only=True) == config()


def test_paths_stay_as_they_are_written(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("base").mkdir()
    Path("data").mkdir()
    plain = replace(config(path="base"), dataset=DatasetConfig(root="data", repo_id=DATA))
    gone = replace(config(path="./nowhere"), dataset=DatasetConfig(root="./nowhere"))
    with no_sockets(monkeypatch):
        assert settle_sources(plain) == plain
        assert settle_sources(gone) == gone
        scratch = replace(config(path=None), dataset=plain.dataset, from_scratch=True)
        assert settle_sources(scratch) == scratch
