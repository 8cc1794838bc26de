"""What code for a GPU is compiled by, where Triton looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05.triton_here import why_no_triton


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with the package triton and Python's headers; return the folder that programs are found in."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("sysconfig.get_path", lambda name, scheme: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "Python.h").touch()
    return tmp_path


def install(folder: Path, name: str) -> None:
    (folder / name).touch(mode=0o755)


def test_without_triton_the_reason_names_it(monkeypatch: pytest.MonkeyPatch, there: Path) -> None:
    install(there, "gcc")
    assert why_no_triton() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert why_no_triton() == "the package triton is missing"


def test_the_compiler_is_looked_for_where_triton_looks(monkeypatch: pytest.MonkeyPatch, there: Path) -> None:
    """$CC alone where it is set, one word; else gcc or clang, and never cc."""
    install(there, "cc")
    assert why_no_triton() == "a C compiler is missing (gcc or clang)"
    install(there, "clang")
    assert why_no_triton() is None
    for wrong in ("tcc", "clang -m64", ""):
        monkeypatch.setenv("CC", wrong)
        assert why_no_triton() == f"a C compiler is missing (CC is {wrong!r})"
    monkeypatch.setenv("CC", "cc")
    assert why_no_triton() is None


def test_without_python_headers_nothing_is_compiled(there: Path) -> None:
    install(there, "gcc")
    (there / "Python.h").unlink()
    assert why_no_triton() == "Python.h is missing (Debian: python3-dev)"
