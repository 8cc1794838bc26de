"""A name becomes a folder: which place goes first, what is said, what happens without a network."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub, content
from fetching import FILES, MODEL, no_sockets

from pi05.errors import CheckpointError, DataError, UserError
from pi05.revision import RECEIPT, read_revision
from pi05.sources.cache import PART, hub_cache
from pi05.sources.names import PALIGEMMA
from pi05.sources.receipt import describe_source
from pi05.sources.resolve import resolve

BASE = "lerobot/pi05_base"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """Return a lab's folder with scripts/, which is the working directory."""
    folder = tmp_path / "lab"
    (folder / "scripts").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def put(folder: Path, **receipt: str) -> Path:
    """Make a folder of a model, with a receipt where something is told."""
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    if receipt:
        facts = {
            "revision": None,
            "endpoint": "",
            "fetched": "",
            "kind": "model",
            "files": {"config.json": {"size": 1}},
        }
        (folder / RECEIPT).write_text(json.dumps({"format": "pi05-fetch", "version": 1, **facts, **receipt}))
    return folder


def look(name: str, kind: str = "model") -> tuple[Path, str]:
    said: list[str] = []
    found = resolve(name, kind, say=said.append)  # type: ignore[arg-type]
    return found, "\n".join(said)


def test_the_order_of_places(lab: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last to the first: each, once there, goes before those that were found until then."""
    hub.publish(BASE, FILES)
    cached, said = look(BASE)
    assert cached.is_relative_to(hub_cache())
    assert "fetched into the hub's cache" in said
    with no_sockets(monkeypatch):
        assert "the hub's cache" in look(BASE)[1]
        inside = put(lab / "scripts" / "pi05_base_model")
        assert look(BASE)[0] == inside
        assert "in scripts/" in look(BASE)[1]
        beside = put(lab / "pi05_base_model")
        monkeypatch.chdir(lab / "scripts")
        shutil.rmtree(inside)
        assert look(BASE)[0] == beside
        assert "beside scripts/" in look(BASE)[1]
        here = put(lab / "scripts" / "pi05_base_model")
        found, said = look(BASE)
        assert found == here
        assert "in the working directory" in said
        assert "nothing in it says that it is this one" in said
        assert len(said.splitlines()) == 1


def test_scripts_say_where_they_lie(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI05_SCRIPTS", str(lab / "scripts"))
    monkeypatch.chdir(tmp_path)
    put(lab / "pi05_base_model")
    assert look(BASE)[0] == lab / "pi05_base_model"
    assert look("pi05_base_model")[0] == lab / "pi05_base_model", "the folder's own name is enough"


def test_a_folder_of_something_else_is_not_taken(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    put(lab / "pi05_base_model", name="lab/other", commit="1" * 40)
    put(lab / "model")
    with pytest.raises(CheckpointError) as caught:
        look(BASE)
    assert "of lab/other" in str(caught.value.found)
    with pytest.raises(CheckpointError) as caught:
        look(MODEL)
    assert "nothing says that it is of this repository" in str(caught.value.found)
    shutil.rmtree(lab / "model")
    put(lab / "model", name=MODEL, commit="2" * 40)
    assert look(MODEL)[0] == lab / "model"


def test_a_revision_must_be_that_of_the_folder(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = put(lab / "pi05_base_model", name=BASE, commit="9e55186a" + "0" * 32)
    assert look(f"{BASE}@9e55186a")[0] == folder
    with pytest.raises(CheckpointError) as caught:
        look(f"{BASE}@a538eb27")
    assert "of commit 9e55186a" in str(caught.value.found)
    assert "pi05 fetch base@a538eb27" in caught.value.remedy
    (folder / RECEIPT).unlink()
    with pytest.raises(CheckpointError) as caught:
        look(f"{BASE}@9e55186a")
    assert "of an unknown commit" in str(caught.value.found)


def test_a_folder_without_weights_is_not_taken(lab: Path, hub: FakeHub) -> None:
    """What an interrupted `hf download` leaves."""
    hub.publish(BASE, FILES)
    (put(lab / "pi05_base_model") / "model.safetensors").unlink()
    assert look(BASE)[0].is_relative_to(hub_cache())


def test_without_a_network_the_command_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with no_sockets(monkeypatch):
        for name, kind, error, command in [
            (BASE, "model", CheckpointError, "pi05 fetch base"),
            ("HuggingFaceVLA/libero", "dataset", DataError, "pi05 fetch libero"),
            ("lab/cubes@v3.0", "dataset", DataError, "pi05 fetch lab/cubes@v3.0 --repo-type=dataset"),
            (PALIGEMMA, "tokenizer", CheckpointError, "pi05 fetch tokenizer"),
        ]:
            with pytest.raises(UserError) as caught:
                look(name, kind)
            assert type(caught.value) is error
            assert command in caught.value.remedy
            assert "network: not asked" in str(caught.value.found)
            assert str(hub_cache()) in str(caught.value.found)


def test_a_gated_name_says_what_to_do(lab: Path, hub: FakeHub) -> None:
    hub.publish(PALIGEMMA, {"tokenizer.json": b"{}", "model.safetensors": b"x" * 10_000}, gated=True)
    with pytest.raises(CheckpointError) as caught:
        look(PALIGEMMA, "tokenizer")
    assert f"accept the licence at https://huggingface.co/{PALIGEMMA}" in caught.value.remedy
    assert "hf auth login" in caught.value.remedy


def test_a_name_that_is_not_there(lab: Path, hub: FakeHub) -> None:
    with pytest.raises(CheckpointError) as caught:
        look("lab/nothing")
    assert "there is no model lab/nothing, or it is private" in str(caught.value.found)
    with pytest.raises(CheckpointError) as caught:
        look(f"{MODEL}@nothing")
    assert "correct the revision behind @" in caught.value.remedy


def test_only_the_tokenizer_travels(lab: Path, hub: FakeHub) -> None:
    hub.publish(PALIGEMMA, {"tokenizer.json": b"{}", "model.safetensors": b"x" * 10_000})
    assert set(content(look(PALIGEMMA, "tokenizer")[0])) == {"tokenizer.json"}
    assert len(hub.asked("GET", "/resolve/")) == 1


def test_a_revision_holds_for_every_file(lab: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(MODEL, {name: data + b" of v2" for name, data in FILES.items()}, branch="v2")
    commit = hub.repositories[MODEL].sha("v2")
    folder, said = look(f"{MODEL}@v2")
    assert content(folder) == {name: data + b" of v2" for name, data in FILES.items()}
    assert commit[:8] in said
    assert all(f"/resolve/{commit}/" in request.path for request in hub.asked("GET", "/resolve/"))
    with no_sockets(monkeypatch):
        assert look(f"{MODEL}@v2")[0] == look(f"{MODEL}@{commit[:9]}")[0] == folder
    assert look(MODEL)[0] != folder
    assert content(look(MODEL)[0]) == FILES


def test_the_cache_is_the_clients_own(lab: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    folder = look(MODEL)[0]
    with no_sockets(monkeypatch):
        assert snapshot_download(MODEL, cache_dir=hub_cache(), local_files_only=True) == str(folder)
    assert (folder / "model.safetensors").is_symlink()
    assert read_revision(folder, []) == hub.repositories[MODEL].sha("main")
    facts = describe_source(folder)
    assert facts is not None
    assert (facts["name"], facts["number_of_files"]) == (MODEL, 3)
    assert facts["files"]["model.safetensors"]["tag"] == (folder / "model.safetensors").resolve().name


def test_what_the_client_fetched_is_found(lab: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(MODEL, endpoint=hub.url, cache_dir=hub_cache(), token=TOKEN)
    with no_sockets(monkeypatch):
        assert str(look(MODEL)[0]) == folder


def test_half_a_cache_is_completed_from_where_it_stopped(lab: Path, hub: FakeHub) -> None:
    hub.fail("GET", "/resolve/.*model.safetensors", stop_at=5000)
    hub.fail("GET", "/resolve/.*model.safetensors", 403)
    with pytest.raises(CheckpointError):
        look(MODEL)
    (part,) = hub_cache().rglob(f"*{PART}")
    assert part.stat().st_size == 5000
    assert content(look(MODEL)[0]) == FILES
    assert not list(hub_cache().rglob(f"*{PART}"))
    assert hub.asked("GET", "/resolve/.*model.safetensors")[-1].headers["Range"] == "bytes=5000-"


def test_two_at_once_fetch_it_once(lab: Path, hub: FakeHub) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(look(MODEL)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert content(found[0]) == FILES
    assert len(hub.asked("GET", "/resolve/.*model.safetensors")) == 1


def test_lerobots_home(lab: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = home / "lerobot" / "lab" / "cubes"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text("{}")
    assert look("lab/cubes", "dataset")[0] == folder
    monkeypatch.setenv("HF_LEROBOT_HOME", str(home / "elsewhere"))
    with pytest.raises(DataError):
        look("lab/cubes", "dataset")


def test_paths_stay_what_they_are(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_sockets(monkeypatch):
        put(lab / "owner" / "name")
        for text in ("owner/name", "scripts", "nowhere", "./no/thing", "/no/thing", "owner/other"):
            found, said = look(text)
            assert (found, said) == (Path(text), "")


def test_repositories_without_what_is_wanted(lab: Path, hub: FakeHub) -> None:
    with pytest.raises(CheckpointError, match="not in reach") as caught:
        look(MODEL, "tokenizer")
    assert "config.json" in str(caught.value.found)


def test_names_that_leave_the_folder_are_refused(lab: Path, hub: FakeHub) -> None:
    hub.publish("lab/evil", {"../../config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(CheckpointError) as caught:
        look("lab/evil")
    assert "'../../config.json'" in str(caught.value.found)
