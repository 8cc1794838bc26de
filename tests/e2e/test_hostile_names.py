"""Names and texts of other people, through every command: nothing acts on the terminal, nothing is markup."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakes
import pytest
import yaml

from pi05.cli import COMMANDS, main

EVIL = "a\x1b[2J\x1b]52;c;cm0\x07\x9b31m\u202e[red]:bomb:\r\nb<i>`|"
"""Clears the screen, fills the clipboard, turns the writing round; markup of rich, HTML and Markdown."""
ACTS = set("\x1b\x07\x9b\u202e\r")
SHOWN = r"a\u001b[2J\u001b]52;c;cm0\u0007\u009b31m\u202e[red]:bomb:"


def folder_name(text: str) -> str:
    return text.replace("\n", "").replace("/", "")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set whose folder, tasks, robot and dimensions have such names."""
    root = tmp_path_factory.mktemp("hostile") / folder_name(EVIL)
    fakes.write_dataset(root, "v2.1", (6, 6, 6), storage="image", tasks=(EVIL, f"{EVIL} too"))
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    for name in ("action", "observation.state"):
        info["features"][name]["names"] = [f"{EVIL}{i}" for i in range(info["features"][name]["shape"][0])]
    info["robot_type"] = EVIL
    path.write_text(json.dumps(info))
    return root


@pytest.fixture(scope="module")
def trained(workshop: Any, recorded: Path) -> tuple[Path, list[str]]:
    """Return a run on it and the run's flags."""
    run = recorded.parent / f"run {folder_name(EVIL)}"
    flags = workshop.flags(
        run, dataset__root=recorded, steps=2, save_freq=2, eval_steps=2, job_name=EVIL, dataset__repo_id=EVIL
    )
    return run, flags


def said(words: Sequence[str], capsys: pytest.CaptureFixture[str], code: int | None = 0) -> str:
    """Run a command; return what it printed, in which nothing may act. No code: 0 or 1, whatever is found."""
    ended = main(list(words))
    assert ended == code if code is not None else ended in (0, 1), capsys.readouterr()
    printed = "".join(capsys.readouterr())
    assert not set(printed) & ACTS
    return printed


def test_through_every_command(trained: tuple[Path, list[str]], recorded: Path, tmp_path: Path, capsys: Any) -> None:
    run, flags = trained
    out = tmp_path / folder_name(EVIL)
    hub = "--endpoint=https://ada:se@cret@127.0.0.1:9"
    printed = {
        "plan": said(["plan", *flags, "--gpu=rtx4090"], capsys),
        "check": said(["check", str(recorded), f"--page_dir={out}-page"], capsys, code=None),
        "train": said(["train", *flags], capsys),
        "report": said(["report", str(run)], capsys),
        "inspect": said(["inspect", str(run)], capsys) + said(["inspect", str(run), "--json"], capsys),
        "export": said(["export", "--to=pi05", str(run), str(out)], capsys)
        + said(["export", "--verify", str(out)], capsys)
        + said(["export", "--relocate", str(out)], capsys, code=2),
        "push": said(["push", str(run), "--repo_id=me/policy", "--dry_run", hub], capsys),
        "collect": said(["collect", "--episodes=1", f"--output={out}-set"], capsys),
        "replay": said(["replay", f"{out}-set"], capsys) + said(["replay", str(out)], capsys, code=2),
        "eval": said(["eval", f"--policy.path={run}", f"--output_dir={out}-eval"], capsys, code=2),
        "serve": said(["serve", f"--policy.path={out}/none"], capsys, code=2),
        "doctor": said(["doctor", "--offline", f"--output_dir={out}"], capsys),
        "fetch": said(["fetch", "--verify", str(out)], capsys, code=2),
        "demo": said(["demo", f"--output_dir={out}/{'n' * 300}"], capsys, code=2),
    }
    assert set(printed) == set(COMMANDS) - {"completion"}, "which prints nothing but its own script"
    for name, text in printed.items():
        assert SHOWN in text or name in ("plan", "eval"), name
        assert "se@cret" not in text
        assert "cret@" not in text


def _body(run: Path) -> str:
    return re.sub(r"data:[^\"']*", "", (run / "report.html").read_text())


def test_the_pages_and_the_card(trained: tuple[Path, list[str]], tmp_path: Path, capsys: Any) -> None:
    from pi05.hub.card import Publication, render_card
    from pi05.hub.facts import gather

    run, flags = trained
    if not run.exists():
        said(["train", *flags], capsys)
    said(["report", str(run)], capsys)
    assert "<i>" not in _body(run)
    assert "b&lt;i&gt;`|" in _body(run)
    card = render_card(gather(run, run / "checkpoints" / "000002"), Publication(repo_id="me/p", date="2026-11-29"))
    assert not set(card) & ACTS
    assert not re.search(r"(?<!\\)<i>", re.sub(r"(?ms)^```.*?^```$", "", card))
    matter = yaml.safe_load(card.split("---\n")[1])
    assert set(matter) == {"language", "library_name", "pipeline_tag", "tags"}
