"""A few observations in a file, as a robot would send them: `RUN/step0/observations.npz`."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from pi05.errors import DataError
from pi05.types import TASK

OBSERVATIONS = "observations.npz"
_BETWEEN = "|"
"""Between the number of an observation and the name of a feature."""


def pack_observations(observations: Sequence[Mapping[str, Any]]) -> bytes:
    """Return observations (arrays, and the task as text) as the bytes of an .npz file."""
    arrays = {
        f"{i}{_BETWEEN}{name}": np.asarray(value) for i, one in enumerate(observations) for name, value in one.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_observations(path: Path) -> list[dict[str, Any]]:
    """Return what `pack_observations` has packed. Raises DataError for a file that it did not write."""
    found: dict[int, dict[str, Any]] = {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            for key in arrays.files:
                number, _, name = key.partition(_BETWEEN)
                value = arrays[key]
                found.setdefault(int(number), {})[name] = str(value) if name == TASK else value
        if not found:
            raise ValueError("a file without an observation")
    except (ValueError, TypeError, BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"the stored observations cannot be read: {path}",
            found=str(error),
            remedy="remove the file; observations are made up then",
        ) from error
    return [found[number] for number in sorted(found)]
