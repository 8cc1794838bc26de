"""`pi05 fetch`: its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hub import FakeHub
from fetching import FILES, MODEL, use_home
from libero_files import write_sparse_assets

from pi05.cli import main
from pi05.commands.fetch import liberos_assets


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    use_home(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    server = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.publish(MODEL, FILES)
    return server


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "pi05 fetch needs a name"),
        (["nothing"], "nothing is nothing that can be fetched"),
        (["base", "tokenizer", "--to=x"], "--to is one folder"),
        (["base", "--episodes=[0]"], "has no episodes"),
        (["base", "--mirror=hf-mirror.com"], "--mirror cannot be"),
        (["base", "--workers=0"], "--workers cannot be 0"),
        (["--verify"], "--verify takes one folder"),
        (["--relocate", "a", "b"], "--relocate takes one folder"),
        (["--verify", "nowhere"], "nowhere says nothing of where it is from"),
        (["--bundle"], "--bundle has no value"),
        (["--bundle=out", "--nosuchflag=1"], "there is no flag --nosuchflag"),
        (["base", "--offline"], "there is no flag --offline"),
    ],
)
def test_words_that_mean_nothing(
    words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", *words]) == 2
    assert problem in capsys.readouterr().err


def test_fetched_and_verified(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    with hub:
        assert main(["fetch", MODEL, "--to", "here"]) == 0
        assert main(["fetch", "--verify=here"]) == 0
        assert f"here: 3 files are those of {MODEL}" in capsys.readouterr().out
        assert main(["fetch", "lab/nothing"]) == 2
        assert "there is no model lab/nothing" in capsys.readouterr().err


def test_liberos_assets_are_fetched_to_where_libero_looks(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.publish("datasets/lerobot/libero-assets", {"wall.xml": b"<mujoco/>"})
    with hub:
        assert main(["fetch", "libero-assets"]) == 0
    told = capsys.readouterr().err
    assert Path("libero-assets/wall.xml").read_bytes() == b"<mujoco/>"
    assert "warning: 585 of LIBERO's 585 files are missing or of another size" in told


def test_what_is_said_of_all_of_liberos_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = liberos_assets(write_sparse_assets(tmp_path / "libero-assets"))
    assert found.startswith("LIBERO: all 585 files are there, 585 of them with another content than the original's")
    assert found.endswith("they are used where the wheels are not installed")
    (tmp_path / "libero-assets").rename(tmp_path / "elsewhere")
    assert f"export PI05_LIBERO_ASSETS={tmp_path / 'elsewhere'}" in liberos_assets(Path("elsewhere"))
