"""Repositories as folders: what arrives, what is compared, what is refused, references that are rewritten, receipts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, content
from fetching import no_sockets, use_home

from pi05.errors import HubError
from pi05.hub.bundle import relocate
from pi05.hub.config import FetchConfig
from pi05.hub.fetch import WORK, fetch_to
from pi05.revision import RECEIPT, read_revision
from pi05.sources.names import PALIGEMMA, parse_wish
from pi05.sources.receipt import describe_source, read_receipt, verify

BASE = "lerobot/pi05_base"
STEPS = [
    {"registry_name": "device_processor", "config": {"device": "cpu"}},
    {"registry_name": "tokenizer_processor", "config": {"max_length": 200, "tokenizer_name": PALIGEMMA}},
    {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
]
FILES = {
    "config.json": b'{"type": "pi05"}',
    "model.safetensors": bytes(range(256)) * 20,
    "policy_preprocessor.json": json.dumps({"steps": STEPS}).encode(),
    "pytorch_model.bin": b"x" * 3000,
    ".gitattributes": b"*",
}
TOKENIZER = {"tokenizer.json": b'{"a": 1}', "tokenizer_config.json": b"{}", "model.safetensors": b"y" * 9000}
WANTED = {name: FILES[name] for name in ("config.json", "model.safetensors", "policy_preprocessor.json")}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    use_home(monkeypatch, tmp_path / "home")
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.publish(BASE, FILES)
        hub.publish(PALIGEMMA, TOKENIZER)
        yield hub


said: list[str] = []


def fetch(word: str, folder: str | None = None, **settings: Any) -> Path:
    said.clear()
    wish = parse_wish(word)
    place = Path(folder or wish.folder)
    fetch_to(wish, place, FetchConfig(**settings), say=said.append)
    return place


def name_in(folder: Path) -> str:
    values = json.loads((folder / "policy_preprocessor.json").read_text())
    assert [step["registry_name"] for step in values["steps"]] == [step["registry_name"] for step in STEPS]
    return str(values["steps"][1]["config"]["tokenizer_name"])


def test_a_base_arrives_with_one_copy_of_its_weights_and_a_receipt(server: FakeHub) -> None:
    folder = fetch("base")
    assert folder == Path("pi05_base_model")
    receipt = read_receipt(folder)
    assert receipt is not None
    assert content(folder) == {**WANTED, RECEIPT: (folder / RECEIPT).read_bytes()}
    commit = server.repositories[BASE].sha("main")
    assert (receipt.name, receipt.commit, receipt.endpoint, receipt.revision) == (BASE, commit, server.url, None)
    assert set(receipt.files) == set(WANTED)
    assert verify(folder) == receipt
    assert read_revision(folder, [folder / "model.safetensors"]) == commit
    facts = describe_source(folder / "model.safetensors")
    assert facts is not None
    assert facts["commit"] == commit
    assert f"LeRobot will look {PALIGEMMA} up on the hub" in "\n".join(said)


@pytest.mark.parametrize("first", ["base", "tokenizer"])
def test_references_are_rewritten_in_whatever_order_things_come(first: str, server: FakeHub) -> None:
    for word in (first, {"base": "tokenizer", "tokenizer": "base"}[first]):
        fetch(word)
    name = name_in(Path("pi05_base_model"))
    assert Path(name) == Path("paligemma_model").absolute(), "from any working directory"
    assert set(content(Path("paligemma_model"))) == {"tokenizer.json", "tokenizer_config.json", RECEIPT}
    verify(Path("pi05_base_model"))
    before = len(server.asked("GET", "/resolve/"))
    fetch("base")
    assert len(server.asked("GET", "/resolve/")) == before, "what was rewritten here is no damage"
    assert name_in(Path("pi05_base_model")) == name


def test_a_moved_folder_finds_its_tokenizer_again(server: FakeHub, tmp_path: Path) -> None:
    fetch("tokenizer")
    fetch("base")
    os.rename(tmp_path / "lab", tmp_path / "moved")
    folder = tmp_path / "moved" / "pi05_base_model"
    os.chdir(tmp_path)
    assert relocate(folder, said.append) == [f"{folder / 'policy_preprocessor.json'}: rewritten"]
    assert Path(name_in(folder)) == tmp_path / "moved" / "paligemma_model"
    verify(folder)
    assert relocate(folder, said.append) == []
    with pytest.raises(HubError, match="no reference"):
        relocate(tmp_path, said.append)


def test_what_is_there_and_whole_does_not_travel(server: FakeHub) -> None:
    folder = Path("pi05_base_model")
    folder.mkdir()
    for name, data in WANTED.items():
        (folder / name).write_bytes(data)
    fetch("base")
    assert server.asked("GET", "/resolve/") == []
    assert read_receipt(folder) is not None, "a folder of `hf download` has one from now on"


def test_what_the_cache_holds_is_copied(server: FakeHub) -> None:
    from pi05.sources.resolve import resolve

    resolve(BASE, "model", say=said.append)
    before = len(server.asked("GET", "/resolve/"))
    assert set(content(fetch("base"))) == {*WANTED, RECEIPT}
    assert len(server.asked("GET", "/resolve/")) == before


def test_a_users_own_files_are_never_overwritten(server: FakeHub) -> None:
    Path("pi05_base_model").mkdir()
    own = Path("pi05_base_model/config.json")
    own.write_text("mine")
    with pytest.raises(HubError, match="holds something else"):
        fetch("base")
    assert own.read_text() == "mine"
    assert read_receipt(own.parent) is None


def test_a_folder_of_another_repository_is_refused(server: FakeHub) -> None:
    server.publish("lab/other", FILES)
    fetch("base")
    with pytest.raises(HubError) as caught:
        fetch("lab/other", "pi05_base_model")
    assert caught.value.found == BASE
    assert "--to" in caught.value.remedy


def test_a_newer_commit_replaces_what_was_fetched(server: FakeHub) -> None:
    fetch("base")
    fetch("tokenizer")
    server.publish(BASE, {**FILES, "model.safetensors": b"new" * 50})
    folder = fetch("base")
    receipt = verify(folder)
    assert receipt.commit == server.repositories[BASE].sha("main")
    assert (folder / "model.safetensors").read_bytes() == b"new" * 50
    assert Path(name_in(folder)).is_absolute()


def test_a_fetch_that_broke_off_goes_on(server: FakeHub) -> None:
    server.fail("GET", "/resolve/.*model.safetensors", stop_at=1000)
    server.fail("GET", "/resolve/.*model.safetensors", 403)
    with pytest.raises(HubError):
        fetch("base")
    folder = Path("pi05_base_model")
    assert not (folder / "model.safetensors").exists()
    assert not (folder / RECEIPT).exists()
    assert (folder / WORK).is_dir()
    fetch("base")
    assert server.asked("GET", "/resolve/.*model.safetensors")[-1].headers["Range"] == "bytes=1000-"
    assert not (folder / WORK).exists()
    verify(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is gone"),
        (lambda folder: (folder / "config.json").write_bytes(b"{}"), "2 bytes, not 16"),
        (lambda folder: (folder / "model.safetensors").write_bytes(bytes(20 * 256)), "has SHA-256"),
        (lambda folder: (folder / RECEIPT).unlink(), "No such file"),
        (lambda folder: (folder / RECEIPT).write_text("{}"), "other fields"),
    ],
)
def test_damage_is_found(damage: Any, said: str, server: FakeHub) -> None:
    folder = fetch("base")
    damage(folder)
    with pytest.raises(HubError) as caught:
        verify(folder)
    assert said in str(caught.value.found)
    assert "fetch it again" in caught.value.remedy


def test_offline_nothing_is_asked(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with no_sockets(monkeypatch), pytest.raises(HubError, match="nothing may be sent"):
        fetch("base")
    assert server.requests == []


def test_a_revision_and_a_mirror(server: FakeHub) -> None:
    server.publish(BASE, {**FILES, "config.json": b"{}"}, branch="old")
    with FakeHub() as mirror:
        mirror.repositories = server.repositories
        folder = fetch("base@old", "old", mirror=(mirror.url,))
        receipt = verify(folder)
        assert (receipt.revision, receipt.endpoint) == ("old", mirror.url)
        assert (folder / "config.json").read_bytes() == b"{}"
    assert server.requests == []


def test_assets_come_whole(server: FakeHub) -> None:
    files = {"scenes/kitchen.xml": b"<mujoco/>", "textures/wood.png": b"png", "meshes/a.bin": b"mesh"}
    server.publish("datasets/lerobot/libero-assets", files)
    folder = fetch("libero-assets")
    assert {name: data for name, data in content(folder).items() if name != RECEIPT} == files
