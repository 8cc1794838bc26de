"""Whether a package could be imported, found out without importing anything."""

from __future__ import annotations

from importlib.machinery import PathFinder


def has_module(name: str) -> bool:
    """Return whether a top-level module lies on the path.

    Only the path is asked: `importlib.util.find_spec` asks every finder, and the one that setuptools puts first warns
    where it is asked for pip after distutils was imported.
    """
    return PathFinder.find_spec(name) is not None
