"""Which way the low-memory update takes: run and plan decide it by one function."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05.train.optim.way import ChosenWay, Way, choose_way, why_no_triton


def test_the_fastest_that_nothing_speaks_against_and_the_reasons() -> None:
    asked: list[Way] = []

    def refuses(*refused: Way) -> ChosenWay:
        def answer(way: Way) -> str | None:
            asked.append(way)
            return f"no {way}" if way in refused else None

        asked.clear()
        return choose_way(True, answer)

    assert refuses() == ChosenWay(way="kernel")
    assert asked == ["kernel"], "compiling for a trial takes half a minute: it is not asked for in vain"
    assert refuses("kernel") == ChosenWay(way="compiled", why_no_kernel="no kernel")
    assert asked == ["kernel", "compiled"]
    both = refuses("kernel", "compiled")
    assert both == ChosenWay(way="plain", why_no_kernel="no kernel", why_not_compiled="no compiled")


def test_on_a_cpu_nobody_is_asked() -> None:
    def never(way: Way) -> str | None:
        raise AssertionError(way)

    assert choose_way(False, never) == ChosenWay(way="plain")


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
