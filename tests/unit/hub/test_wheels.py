"""The pinned environment as wheels: which, from which index, and what pip is called with."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pi05.errors import HubError
from pi05.hub import wheels
from pi05.sim.libero.versions import NEEDED


def test_everything_that_runs_here_is_pinned() -> None:
    pins = dict(pin.split("==") for pin in wheels.pinned_environment())
    for name in ("pi05", "torch", "numpy", "tokenizers", "huggingface_hub", "jaxtyping"):
        assert pins[name] == importlib.metadata.version(name)
    assert "pytest" in pins, "an extra that is installed here"


def test_extras_of_requirements_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lab needs server[fast], which needs speed; nobody asks for the other extra, or for what Windows needs."""
    needs = {
        "lab": ['server[fast]>=1; python_version > "3"', 'tests; extra == "dev"', 'colours; sys_platform == "win32"'],
        "server": ["lab", 'speed; extra == "fast"', 'certificates; extra == "tls"'],
        **{name: [] for name in ("speed", "certificates", "tests", "colours")},
    }
    for name, requires in needs.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
        extras = {"lab": ["dev"], "server": ["fast", "tls"]}.get(name, [])
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert wheels.pinned_environment("lab") == ["lab==1.0", "server==1.0", "speed==1.0", "tests==1.0"]


def test_builds_of_torch_have_their_index() -> None:
    groups = wheels.by_index(["numpy==2.4.6", "torch==2.13.0+cu130", "triton==3.5"])
    assert groups == {
        None: ["numpy==2.4.6", "triton==3.5"],
        "https://download.pytorch.org/whl/cu130": ["torch==2.13.0+cu130"],
    }


def test_pip_gets_every_pin_once(tmp_path: Path) -> None:
    calls: list[Sequence[str]] = []

    def run(words: Sequence[str]) -> int:
        calls.append(words)
        return 0

    pins = wheels.download_wheels(tmp_path / "wheels", lambda _: None, run)
    asked = [word for call in calls for word in call if "==" in word]
    assert sorted(asked) == sorted(pin for pin in pins if not pin.startswith("pi05=="))
    assert all(call[:3] == [sys.executable, "-m", "pip"] and "--no-deps" in call for call in calls)
    assert calls[-1][4] == "wheel"
    assert Path(calls[-1][-1]).is_dir(), "pi05 itself is built from its source folder"
    assert (tmp_path / "wheels" / "requirements.txt").read_text().split() == pins


def test_libero_goes_along_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that pi05 asks for leads to these three, so that they are named, and built without their dependencies."""
    assert set(wheels.WITHOUT_DEPENDENCIES) == set(NEEDED)
    for name, version in NEEDED.items():
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    calls: list[Sequence[str]] = []
    pins = wheels.download_wheels(tmp_path / "wheels", lambda _: None, lambda words: calls.append(words) or 0)
    libero = [f"{name}=={version}" for name, version in NEEDED.items()]
    assert pins[-3:] == libero
    assert list(calls[-1][-4:-1]) == libero
    assert not any(pin in call for call in calls[:-1] for pin in libero)


def test_a_failure_of_pip_is_told(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="pip download failed") as caught:
        wheels.download_wheels(tmp_path, lambda _: None, lambda _: 1)
    assert "PIP_INDEX_URL" in caught.value.remedy


def test_what_is_not_installed_cannot_be_pinned() -> None:
    with pytest.raises(HubError, match="is not installed as a package"):
        wheels.pinned_environment("no-such-package-of-ours")
