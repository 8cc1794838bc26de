"""Whether LIBERO is installed: `make libero` brings it, and tests that need it skip without it."""

from __future__ import annotations

from importlib import metadata

import pytest


def _is_installed() -> bool:
    try:
        metadata.version("hf-libero")
    except metadata.PackageNotFoundError:
        return False
    return True


needs_libero = pytest.mark.skipif(not _is_installed(), reason="LIBERO is not installed: make libero")
