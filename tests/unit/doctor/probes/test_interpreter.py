"""Python's surroundings, as the probe finds them in made-up folders."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

from pi05.doctor.facts import Interpreter, Package
from pi05.doctor.probes.interpreter import probe_interpreter


def probe(**changes: Any) -> Interpreter:
    world: dict[str, Any] = {
        "environment": {},
        "import_path": [],
        "requirements": list,
        "version_of": lambda name: None,
        "origin_of": lambda name: None,
        "triton": lambda: None,
    }
    return probe_interpreter(**world | changes)


def test_packages_are_those_that_pi05_requires_without_torch_and_extras() -> None:
    lines = ["torch>=2.7", "numpy>=2.0", "av>=14", 'wandb>=0.19; extra == "wandb"']
    found = probe(requirements=lambda: lines, version_of={"numpy": "2.4.6"}.get).packages
    assert found == (
        Package(name="numpy", oldest="2.0", found="2.4.6"),
        Package(name="av", oldest="14", found=None),
    )


def test_the_requirements_of_this_installation_are_read() -> None:
    found = {package.name: package for package in probe_interpreter().packages}
    assert found["numpy"].found is not None
    assert "wandb" not in found


def test_sources_that_are_not_installed() -> None:
    def requirements() -> list[str]:
        raise metadata.PackageNotFoundError("pi05")

    found = probe(requirements=requirements)
    assert (Path(found.sources or "") / "src" / "pi05").is_dir()
    assert found.packages == ()
    assert probe().sources is None


def test_two_installations_of_torch(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "torch").mkdir(parents=True)
        (tmp_path / name / "torch" / "version.py").touch()
    (tmp_path / "no" / "torch").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    path = [str(tmp_path / name) for name in ("one", "no", "other", "link", "gone")]
    assert probe(import_path=path).torch_folders == tuple(str(tmp_path / n / "torch") for n in ("one", "other"))


def test_an_editable_lerobot() -> None:
    def origin(text: str | None) -> str | None:
        return probe(origin_of=lambda name: text if name == "lerobot" else None).editable_lerobot

    assert origin('{"url": "file:///home/me/lerobot", "dir_info": {"editable": true}}') == "/home/me/lerobot"
    for text in (None, "{}", "not JSON", "[]", '{"url": "file:///a.whl", "archive_info": {}}'):
        assert origin(text) is None


def test_python_path_and_what_it_hides(tmp_path: Path) -> None:
    (tmp_path / "ros" / "numpy").mkdir(parents=True)
    (tmp_path / "ros" / "numpy" / "__init__.py").touch()
    (tmp_path / "ros" / "av.py").touch()
    entries = [str(tmp_path / "ros"), str(tmp_path / "tools")]
    found = probe(environment={"PYTHONPATH": os.pathsep.join([*entries, ""])}).python_path
    assert found == ((entries[0], ("numpy", "av")), (entries[1], ()))


def test_libraries_of_another_cuda(tmp_path: Path) -> None:
    for name in ("libcudart.so.12", "libcudnn_ops.so.9.1.0", "libfoo.so", "libcudart_static.a"):
        (tmp_path / name).touch()
    value = f"{tmp_path}:/nowhere::{tmp_path / 'libfoo.so'}"
    found = probe(environment={"LD_LIBRARY_PATH": value}).library_path
    assert found == ((str(tmp_path), ("libcudart.so.12", "libcudnn_ops.so.9.1.0")),)


def test_what_is_missing_for_compiling_is_told() -> None:
    assert probe().why_no_triton is None
    assert probe(triton=lambda: "a C compiler is missing").why_no_triton == "a C compiler is missing"
