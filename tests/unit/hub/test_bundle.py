"""What goes into a bundle from local folders, and what its script says. The whole way is in e2e/test_fetch.py."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from fake_hub import content
from fetching import no_sockets, use_home

from pi05.data.config import DatasetConfig
from pi05.errors import ConfigError, HubError
from pi05.hub.bundle import kept_flags, make_bundle
from pi05.sources.receipt import verify
from pi05.train.config import TINY_BASE, TrainConfig
from pi05.train.policy_config import PolicyConfig

said: list[str] = []


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a data set, a base with two copies of its weights, and a tokenizer."""
    use_home(monkeypatch, tmp_path / "home")
    fakes.write_dataset(tmp_path / "data", version="v2.1", episodes=(3, 4))
    (tmp_path / "base").mkdir()
    for name in ("model.safetensors", "pytorch_model.bin", "config.json"):
        (tmp_path / "base" / name).write_bytes(name.encode())
    (tmp_path / "paligemma_model").mkdir()
    fakes.write_tokenizer(tmp_path / "paligemma_model" / "tokenizer.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(lab: Path, **policy: object) -> TrainConfig:
    settings = {"path": str(lab / "base"), "tokenizer_path": str(lab / "paligemma_model"), **policy}
    dataset = DatasetConfig(root=str(lab / "data"), episodes=(1,))
    return replace(TrainConfig(), dataset=dataset, policy=PolicyConfig(**settings))  # type: ignore[arg-type]


def test_local_folders_are_copied_as_far_as_they_are_needed(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = lab / "out"
    with no_sockets(monkeypatch):
        make_bundle(out, config(lab), ["--steps", "5", "--policy.path", str(lab / "base")], say=said.append)
    names = set(content(out))
    assert {"pi05_base_model/model.safetensors", "pi05_base_model/config.json"} <= names
    assert "pi05_base_model/pytorch_model.bin" not in names
    assert "paligemma_model/tokenizer.json" in names
    assert any("episode_000001" in name for name in names)
    assert not any("episode_000000" in name for name in names)
    verify(out)
    script = (out / "train.sh").read_text()
    assert shlex.split(script.split("exec ", 1)[1].replace("\\\n", " "))[1:] == [
        *("train", "--offline", "--dataset.root=local_dataset", "--policy.path=pi05_base_model"),
        *("--policy.tokenizer_path=paligemma_model", "--steps", "5", "$@"),
    ]
    (out / "local_dataset" / "meta" / "info.json").write_text("{}")
    with pytest.raises(HubError, match="is not what was fetched"):
        verify(out)


def test_the_packaged_base_is_everywhere(lab: Path) -> None:
    make_bundle(lab / "out", config(lab, path=str(TINY_BASE), tokenizer_path=None), [], say=said.append)
    assert {path.name for path in (lab / "out").iterdir()} == {"local_dataset", "train.sh", "pi05_fetch.json"}


def test_one_line_installs_the_wheels_there(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.hub.bundle.download_wheels", lambda folder, say: write_pins(folder))
    make_bundle(lab / "out", config(lab, path=str(TINY_BASE), tokenizer_path=None), [], wheels=True, say=said.append)
    words = shlex.split(said[-1].partition("there: ")[2].partition(";")[0])
    assert words[:2] == ["pip", "install"]
    assert {"--no-index", "--no-deps"} < set(words)
    assert (lab / "out" / words[words.index("--find-links") + 1]).is_dir()
    assert (lab / "out" / words[words.index("-r") + 1]).read_text() == "pi05==0\n"


def write_pins(folder: Path) -> list[str]:
    folder.mkdir()
    (folder / "requirements.txt").write_text("pi05==0\n")
    return ["pi05==0"]


def test_the_flags_of_the_script() -> None:
    words = ["--bundle", "out", "--policy.pretrained-path=x", "--mirror=[a]", "--wheels", "--seed=7", "--wheels=true"]
    assert kept_flags([*words, "--policy.path", "y", "--resume", "--dataset.repo_id=a/b"]) == [
        *("--seed=7", "--resume", "--dataset.repo_id=a/b")
    ]


def test_a_folder_of_something_else_is_refused(lab: Path) -> None:
    with pytest.raises(HubError, match="holds something else"):
        make_bundle(lab, config(lab), [], say=said.append)


def test_a_bundle_needs_a_data_set_that_is_there(lab: Path) -> None:
    nothing = replace(config(lab), dataset=DatasetConfig())
    with pytest.raises(ConfigError, match="a bundle needs a data set"):
        make_bundle(lab / "out", nothing, [], say=said.append)
    with pytest.raises(HubError, match=r"there is no \./nowhere"):
        make_bundle(lab / "out", replace(nothing, dataset=DatasetConfig(root="./nowhere")), [], say=said.append)
