"""Where logins are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pi05.doctor.facts import Answer, Trackers
from pi05.doctor.probes.trackers import probe_trackers


def probe(home: Path, asked: list[str], offline: bool = False, installed: bool = True, **environment: str) -> Trackers:
    def ask(url: str, **_: Any) -> Answer:
        asked.append(url)
        return Answer(status=200)

    return probe_trackers(
        offline=offline, ask=ask, environment={"HOME": str(home), **environment}, has_module=lambda _: installed
    )


def test_a_login_from_the_environment_or_netrc(tmp_path: Path) -> None:
    asked: list[str] = []
    assert probe(tmp_path, asked).wandb_login is None
    assert asked == []
    assert probe(tmp_path, asked, WANDB_API_KEY="secret").wandb_login == "WANDB_API_KEY"
    file = tmp_path / ".netrc"
    file.write_text("machine wandb.lab login user password secret\n")
    assert probe(tmp_path, asked).wandb_login is None
    found = probe(tmp_path, asked, WANDB_BASE_URL="https://wandb.lab/")
    assert (found.wandb_login, found.wandb_host, found.wandb_answer) == (str(file), "wandb.lab", Answer(status=200))
    assert "secret" not in repr(found)
    assert asked == ["https://api.wandb.ai/healthz", "https://wandb.lab/healthz"]
    file.write_text("nonsense")
    assert probe(tmp_path, asked).wandb_login is None


def test_nobody_is_asked_without_need(tmp_path: Path) -> None:
    asked: list[str] = []
    key = {"WANDB_API_KEY": "secret"}
    probe(tmp_path, asked, offline=True, **key)
    probe(tmp_path, asked, installed=False, **key)
    assert probe(tmp_path, asked, WANDB_MODE="offline", **key).wandb_mode == "offline"
    assert asked == []


def test_trackio(tmp_path: Path) -> None:
    found = probe(tmp_path, [], TRACKIO_SPACE_ID="me/runs")
    assert (found.trackio, found.trackio_space) == (True, "me/runs")
    assert not probe(tmp_path, [], installed=False).trackio
