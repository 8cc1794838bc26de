"""What a path means: whose folder it is, which files hold the weights, which sizes the small files tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import FakeHub
from fetching import FILES, no_sockets, use_home
from safetensors.torch import save_file

from pi05.checkpoint.load import read_config, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.sidecar import write_sidecar
from pi05.errors import CheckpointError

LEROBOT = {"type": "pi05", "chunk_size": 7, "tokenizer_max_length": 33}


def folder(path: Path, config: dict | None = None, weights: tuple[str, ...] = ("model.safetensors",)) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in weights:
        (path / name).write_bytes(b"")
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


def own(config) -> dict:
    return {"format": "pi05", "format_version": 1, "model": config.to_dict()}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("lerobot", LEROBOT), ("openpi", {"action_horizon": 7}), ("openpi", None), ("pi05", "own")],
)
def test_kinds(tmp_path, config, kind, settings):
    location = locate(folder(tmp_path / "x", own(config) if settings == "own" else settings))
    assert location.kind == kind
    assert location.path == tmp_path / "x"
    assert location.files == [tmp_path / "x" / "model.safetensors"]
    assert (location.adapter, location.orbax, location.index) == (None, None, None)
    assert location.config == (config if kind == "pi05" else None)
    assert location.sizes.get("horizon") == (7 if settings not in (None, "own") else None)


def test_a_file_that_is_named_itself(tmp_path, config):
    path = folder(tmp_path, own(config)) / "model.safetensors"
    location = locate(path)
    assert (location.kind, location.path, location.files) == ("file", path, [path])
    assert location.config == config


@pytest.mark.parametrize("adapter", [False, True])
def test_lerobot_runs(tmp_path, adapter):
    weights = ("adapter_model.safetensors",) if adapter else ("model.safetensors",)
    inner = folder(tmp_path / "checkpoints" / "000020" / "pretrained_model", LEROBOT, weights)
    if adapter:
        (inner / "adapter_config.json").write_text("{}")
    (tmp_path / "checkpoints" / "last").symlink_to("000020")
    location = locate(tmp_path)
    assert location.kind == "lerobot"
    assert location.path.resolve() == inner
    assert (location.adapter is not None) == adapter


def test_openpi_experiment_means_its_newest_step(tmp_path, openpi_tensors, config):
    for step in ("2", "10", "9"):
        save_file(openpi_tensors, folder(tmp_path / "exp" / step, None, ()) / "model.safetensors")
    folder(tmp_path / "exp" / "tmp_11", None)
    folder(tmp_path / "exp" / "12", None, ())
    assert locate(tmp_path / "exp").path == tmp_path / "exp" / "10"
    assert read_model(locate(tmp_path / "exp"), config=config)[1].layout == "openpi PyTorch"


# Sizes out of the sidecar


@pytest.mark.parametrize("title", ["LeRobot", "openpi PyTorch"])
def test_the_sidecar_tells_the_sizes(tmp_path, config, lerobot_tensors, openpi_tensors, title):
    """Of a tiny network in a foreign folder, nothing else tells the head counts; LeRobot's own file goes first."""
    lerobot = title == "LeRobot"
    path = folder(tmp_path / "out", {**LEROBOT, "chunk_size": 9} if lerobot else None, ())
    save_file(lerobot_tensors if lerobot else openpi_tensors, path / "model.safetensors")
    write_sidecar(path, {"layout": "lerobot" if lerobot else "openpi", "model": config.to_dict()})
    expected = replace(config, horizon=9, max_prompt_tokens=33) if lerobot else config
    assert read_config(locate(path)) == expected
    model, receipt = read_model(locate(path))
    assert model.config == expected
    assert receipt.layout == title


def test_a_sidecar_of_another_network_is_noticed(tmp_path, config, openpi_tensors):
    save_file(openpi_tensors, tmp_path / "model.safetensors")
    write_sidecar(tmp_path, {"model": replace(config, expert_mlp=30).to_dict()})
    with pytest.raises(CheckpointError, match="of another shape"):
        read_model(locate(tmp_path))
    with pytest.raises(CheckpointError, match="other sizes than the checkpoint"):
        read_model(locate(tmp_path), config=config)


# Adapters


@pytest.mark.parametrize("settings", [None, {**LEROBOT, "use_peft": True}])
def test_adapters(tmp_path, settings):
    path = folder(tmp_path / "a", settings, ("adapter_model.safetensors",))
    (path / "adapter_config.json").write_text("{}")
    for given in (path, path / "adapter_model.safetensors"):
        location = locate(given)
        assert (location.kind, location.adapter, location.path) == ("lerobot", path, path)
        assert location.files == [path / "adapter_model.safetensors"]


def test_own_adapters(tmp_path, config):
    path = folder(tmp_path / "a", {**own(config), "adapter": True}, ("adapter_model.safetensors",))
    (path / "adapter_config.json").write_text("{}")
    location = locate(path)
    assert (location.kind, location.adapter, location.config) == ("pi05", path, config)


@pytest.mark.parametrize("said", [True, False, None])
def test_full_weights_beside_an_adapter(tmp_path, said):
    settings = LEROBOT if said is None else {**LEROBOT, "use_peft": said}
    path = folder(tmp_path / "a", settings, ("model.safetensors", "adapter_model.safetensors"))
    (path / "adapter_config.json").write_text("{}")
    if said is None:
        with pytest.raises(CheckpointError, match="nothing says which is meant"):
            locate(path)
    else:
        assert (locate(path).adapter is not None) == said


# Sharded


def sharded(path: Path, tensors: dict, index: dict[str, str] | None = None) -> Path:
    names = sorted(tensors)
    shards = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    path.mkdir(exist_ok=True)
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, path / file)
    weight_map = {name: file for file, members in shards.items() for name in members} if index is None else index
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path


@pytest.mark.parametrize("fault", ["not in its shard", "not in the index", "in the other shard"])
def test_an_index_that_disagrees_with_its_shards(tmp_path, config, lerobot_tensors, fault):
    names = sorted(lerobot_tensors)
    path = sharded(tmp_path / "x", lerobot_tensors)
    index = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
    if fault == "not in its shard":
        index["surplus.weight"] = "a.safetensors"
        expected = "surplus.weight is not in a.safetensors"
    elif fault == "not in the index":
        del index[names[-1]]
        expected = f"{names[-1]} in b.safetensors is not in the index"
    else:
        index[names[0]] = "b.safetensors"
        expected = f"{names[0]} is not in b.safetensors"
    sharded(path, lerobot_tensors, index)
    with pytest.raises(CheckpointError, match="index of the sharded checkpoint and its files disagree") as caught:
        read_model(locate(path), config=config)
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": {"x": "../a"}}',
                                  '{"weight_map": {"x": 3}}'])  # fmt: skip
def test_a_damaged_index(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="index"):
        locate(tmp_path)


def test_a_name_on_the_hub_is_a_folder_with_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_home(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.publish("lab/model", FILES)
        location = locate("lab/model")
        commit = hub.repositories["lab/model"].sha("main")
    assert (location.kind, location.revision, location.folder.name) == ("lerobot", commit, commit)
    assert str(location.given) == "lab/model"
    assert capsys.readouterr().err.count("checkpoint: lab/model is") == 1
    with no_sockets(monkeypatch):
        assert locate("lab/model").folder == locate(f"lab/model@{commit}").folder == location.folder
