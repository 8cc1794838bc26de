"""Modules that are there, that are not, and what must not happen on the way."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from types import ModuleType

import pytest

from pi05.doctor.probes.modules import has_module


def test_what_is_there_and_what_is_not() -> None:
    assert has_module("huggingface_hub")
    assert not has_module("no_such_module_anywhere")


def test_no_other_finder_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of setuptools warns, and a warning is an error here: pip after distutils."""

    class Loud(MetaPathFinder):
        def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
            raise AssertionError(name)

    monkeypatch.setattr(sys, "meta_path", [Loud(), *sys.meta_path])
    monkeypatch.setitem(sys.modules, "distutils", ModuleType("distutils"))
    assert has_module("huggingface_hub")
