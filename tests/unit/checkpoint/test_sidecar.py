"""The sidecar: what goes in comes out, and a damaged or newer one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import pi05
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar, write_sidecar
from pi05.errors import CheckpointError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sidecar(tmp_path, {"layout": "lerobot", "fps": 30.0, "base": None})
    assert read_sidecar(tmp_path) == {
        "format": "pi05-export",
        "format_version": 1,
        "pi05_version": pi05.__version__,
        "layout": "lerobot",
        "fps": 30.0,
        "base": None,
    }


def test_values_read_from_an_older_file_do_not_keep_its_version(tmp_path: Path) -> None:
    write_sidecar(tmp_path, {"pi05_version": "0.0.1", "fps": 10.0})
    values = read_sidecar(tmp_path)
    assert values is not None
    assert values["pi05_version"] == pi05.__version__


def test_no_file_is_no_sidecar(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": "pi05-export"', "cannot be read"),
        ("[]", "where an object should be"),
        ('{"format": "pi05"}', "not what pi05 export writes"),
        ('{"format": "pi05-export", "format_version": 2, "pi05_version": "9"}', "newer pi05"),
        ('{"format": "pi05-export", "format_version": "1"}', "newer pi05"),
        ('{"format": "pi05-export"}', "newer pi05"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / SIDECAR).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_sidecar(tmp_path)


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_sidecar(tmp_path, {"fps": float("nan")})
    assert list(tmp_path.iterdir()) == []
