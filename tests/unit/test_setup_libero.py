"""What `make libero` installs, and what it does where nothing draws."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from programs import REPOSITORY, load_program

from pi05.sim.libero.rendering import MESA
from pi05.sim.libero.versions import MUJOCO_PIN, NEEDED

setup_libero = load_program("scripts/setup_libero.py")


class Machine:
    """Runs nothing; remembers the commands, and says whether a frame is drawn."""

    def __init__(self, *draws: bool) -> None:
        self.draws, self.commands = list(draws), list[list[str]]()

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if "-c" in command:
            return subprocess.CompletedProcess(command, 0 if self.draws.pop(0) else 2, "osmesa\n", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    def ran(self, program: str) -> list[list[str]]:
        return [command for command in self.commands if command[0] == program]


def prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: Machine, user: int = 0, apt: bool = True
) -> None:
    (tmp_path / "python").touch()
    monkeypatch.setattr(setup_libero, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(setup_libero, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(setup_libero.subprocess, "run", machine)
    monkeypatch.setattr(setup_libero.shutil, "which", lambda _: "/usr/bin/apt-get" if apt else None)
    monkeypatch.setattr(os, "geteuid", lambda: user)


def test_the_versions_are_those_that_are_looked_for() -> None:
    assert set(setup_libero.WITHOUT_DEPENDENCIES) == {f"{name}=={version}" for name, version in NEEDED.items()}
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["libero"]
    assert f"mujoco=={MUJOCO_PIN}" in extra
    pinned = (REPOSITORY / "constraints.txt").read_text()
    assert all(f"\n{line.split('>')[0].split('=')[0]}==" in pinned for line in extra)
    assert not any(name in line for line in extra for name in NEEDED)


def test_where_something_draws_nothing_is_asked_of_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(True)
    prepared(monkeypatch, tmp_path, machine)
    assert setup_libero.main([]) == 0
    pip = [command[5:] for command in machine.commands[:2]]
    assert pip[0][-2:] == ["--editable", ".[dev,libero]"]
    assert pip[1] == ["--quiet", "--no-deps", *setup_libero.WITHOUT_DEPENDENCIES]
    assert not machine.ran("apt-get")
    assert json.loads((tmp_path / "stamp.json").read_text()) == setup_libero.fingerprint()
    before = len(machine.commands)
    assert setup_libero.main([]) == 0
    assert len(machine.commands) == before


def test_root_gets_mesa_others_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(False, True)
    prepared(monkeypatch, tmp_path, machine)
    assert setup_libero.main([]) == 0
    assert machine.ran("apt-get")[1][-7:] == MESA.split()
    for user, apt, told in ((1000, True, f"sudo apt-get install {MESA}"), (0, False, "package manager of this system")):
        (tmp_path / "stamp.json").unlink(missing_ok=True)
        prepared(monkeypatch, tmp_path, Machine(False), user, apt)
        with pytest.raises(setup_libero.SetupError, match=told):
            setup_libero.main([])
        assert not (tmp_path / "stamp.json").exists()


def test_the_plan_is_told_and_other_words_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert setup_libero.main(["--plan"]) == 0
    assert "pip install --no-deps hf-libero==0.1.4" in capsys.readouterr().out
    with pytest.raises(setup_libero.SetupError, match="--force is not known"):
        setup_libero.main(["--force"])
