"""Distribution, container and installer, from made-up roots."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pi05.doctor.probes.machine import probe_machine
from pi05.doctor.torch_builds import INDEX


def test_the_machine_that_a_remedy_knows(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('NAME="Ubuntu"\nID="ubuntu"\n\n')
    (tmp_path / ".dockerenv").touch()
    machine = probe_machine(
        environment={"PI05_TORCH_INDEX": "http://mirror/"}, root=tmp_path, has_module=lambda _: False
    )
    assert (machine.distribution, machine.container, machine.installer) == ("ubuntu", True, "uv")
    assert machine.torch_index == "http://mirror"


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    machine = probe_machine(environment={}, root=tmp_path, has_module=lambda _: True)
    assert (machine.distribution, machine.container, machine.installer) == ("other", False, "pip")
    assert machine.torch_index == INDEX


def test_the_interpreter_is_named_as_one_types_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert probe_machine().python == ".venv/bin/python"
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert probe_machine().python == "/usr/bin/python3"
