"""Where a repaired copy may be written: a new folder that is neither the set, nor in it, nor around it."""

from __future__ import annotations

from pathlib import Path

from pi05.errors import DataError


def check_destination(root: Path, out: Path) -> None:
    """Raise DataError unless a copy of the data set at `root` may appear at `out`."""
    source, target = root.resolve(), out.resolve()
    if target == source:
        raise _refused(out, "a folder of its own", f"the data set itself: {root}")
    if source in target.parents:
        raise _refused(out, "a folder outside the data set", f"a folder in it: {root}")
    if target in source.parents:
        raise _refused(out, "a folder of its own", f"a folder that holds the data set: {root}")
    if out.is_symlink() and not out.exists():
        raise _refused(out, "a new folder", "a link that leads nowhere")
    if target.is_dir() and any(target.iterdir()):
        raise _refused(out, "a new or an empty folder", f"a folder with content, {next(target.iterdir()).name} in it")
    if target.exists() and not target.is_dir():
        raise _refused(out, "a new folder", "a file")
    if not target.parent.is_dir():
        raise _refused(out, f"a folder in which it can be made: {target.parent}", "no such folder")


def _refused(out: Path, wanted: str, found: str) -> DataError:
    return DataError(
        f"a repaired copy cannot be written to {out}",
        wanted=wanted,
        found=found,
        remedy="give --fix another folder; a set is never repaired in place",
    )
