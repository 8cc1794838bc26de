"""The path templates of info.json: filled with plain numbers and names, and nothing that leads out of the data set.

Python's own formatting would do more: reach into attributes, write a number two thousand million digits wide. Leaves
out whether the file is there (`layout.py`).
"""

from __future__ import annotations

import functools
import glob
import os
import re
import string
from pathlib import Path

from pi05.data.lerobot.files import wrong_content
from pi05.errors import DataError
from pi05.files import inside
from pi05.settings.fields import shown

WIDEST = 20
"""Digits of a number in a path."""
LONGEST_PATH, LONGEST_NAME = 4096, 255
"""Bytes of a path and of each of its parts that Linux takes."""
_DIGITS = re.compile(r"0?([0-9]{0,2})d?")


def fill(template: object, root: Path, info_path: Path, **values: int | str) -> Path:
    """Fill a path template of info.json and return the path below `root`.

    Numbers may have a width of up to 20 digits. Raises DataError for any other field, and for a path outside `root`.
    """
    parts = _parse(template) if isinstance(template, str) else "no text"
    problem = parts if isinstance(parts, str) else _problem(parts, values)
    if isinstance(parts, str) or problem is not None:
        raise wrong_content(
            f"a path template of the data set cannot be filled: {info_path}",
            wanted=f"a template of {', '.join(f'{{{name}}}' for name in values)}; numbers of up to {WIDEST} digits, "
            "such as {episode_index:06d}",
            found=f"{shown(template)} ({problem})",
            remedy="correct data_path or video_path in meta/info.json",
        )
    path = "".join(literal + ("" if name is None else format(values[name], spec)) for literal, name, spec, _ in parts)
    found = inside(root, path, info_path, DataError, "the data set")
    if len(os.fsencode(found)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in found.parts):
        raise wrong_content(
            f"a path of the data set is longer than any file's: {info_path}",
            wanted=f"at most {LONGEST_PATH} bytes, {LONGEST_NAME} in each part",
            found=shown(path),
            remedy="correct data_path or video_path in meta/info.json",
        )
    return found


_Part = tuple[str, str | None, str, str | None]


@functools.lru_cache(maxsize=8)
def _parse(template: str) -> list[_Part] | str:
    """Return (text, field, format, conversion) of each part, or what is wrong with the template."""
    if len(template) > LONGEST_PATH:
        return f"{len(template)} characters"
    try:
        return [(text, name, spec or "", kind) for text, name, spec, kind in string.Formatter().parse(template)]
    except ValueError as error:
        return str(error)


def _problem(parts: list[_Part], values: dict[str, int | str]) -> str | None:
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in values or conversion is not None:
            return f"{{{shown(name)}}} is none of them"
        width = _DIGITS.fullmatch(spec) if isinstance(values[name], int) else re.fullmatch("()", spec)
        if width is None or int(width[1] or 0) > WIDEST:
            return f"the format {shown(spec)} of {name}"
    return None


def locate(path: Path, moved: set[str]) -> Path:
    """Return `path`, or the one file of the same episode in another chunk folder when the template is wrong."""
    if path.exists():
        return path
    chunk = next((parent for parent in path.parents if parent.name.startswith("chunk-")), None)
    if chunk is None:
        return path
    others = sorted(chunk.parent.glob(f"chunk-*/{glob.escape(str(path.relative_to(chunk)))}"))
    if len(others) != 1:
        return path
    moved.add(chunk.parent.name)
    return others[0]
