"""Is a file of a data set really there and whole? Every refusal names the file, and the episode where there is one.

Leaves out what the files mean (`layout.py`, `columns.py`, `video.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pi05.errors import DataError
from pi05.files import is_lfs_pointer, parse_json, parse_object, read_regular
from pi05.settings.fields import shown

DOWNLOAD_AGAIN = "download the data set again until it is complete (a git clone needs `git lfs pull`)"


def excluding(*episodes: int) -> str:
    """Return the flag that trains without some episodes."""
    return f"--dataset.exclude_episodes='[{', '.join(map(str, episodes))}]'"


def dropping(*cameras: str) -> str:
    """Return the flag that leaves cameras out."""
    return f"--drop_cameras='[{', '.join(cameras)}]'"


def of_episode(episode: int | None) -> str:
    """Return ' of episode 3', or nothing for a file that belongs to no single episode."""
    return "" if episode is None else f" of episode {episode}"


def defect(path: Path) -> str | None:
    """Return what is wrong with a file as seen from outside (absent, empty, a git-lfs pointer), or None."""
    if not path.is_file():
        return "no such file"
    size = path.stat().st_size
    if size == 0:
        return "an empty file (0 bytes)"
    if is_lfs_pointer(path):
        return "a git-lfs pointer: the real file was never downloaded"
    return None


def require_file(path: Path, what: str, episode: int | None = None) -> None:
    """Raise DataError unless `path` is a file with content; `what` names its role, for example 'video file'."""
    found = defect(path)
    if found is not None:
        raise DataError(
            f"the {what}{of_episode(episode)} is not there: {path}",
            wanted=f"a complete {what}",
            found=found,
            remedy=DOWNLOAD_AGAIN,
            topic="files",
            episodes=[] if episode is None else [episode],
        )


def unreadable(path: Path, what: str, reason: object, episode: int | None = None) -> DataError:
    """Return the error for a file that is there but cannot be read."""
    return DataError(
        f"the {what}{of_episode(episode)} cannot be read: {path}",
        wanted=f"a complete, readable {what}",
        found=f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason),
        remedy=f"the file is damaged or was cut off while copying; {DOWNLOAD_AGAIN}",
        topic="files",
        episodes=[] if episode is None else [episode],
    )


def wrong_content(
    problem: str, *, wanted: str, found: str, remedy: str, topic: str = "contents", episodes: Sequence[int] = ()
) -> DataError:
    """Return the error for a whole file that holds something else than it should: another download would be equal."""
    return DataError(problem, wanted=wanted, found=found, remedy=remedy, topic=topic, episodes=episodes)


def whole_number(value: object) -> int | None:
    """Return a whole number, also one that pandas made a float of because of an empty cell; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def require_whole(row: dict[str, Any], name: str, path: Path, place: str) -> int:
    """Return a whole number of a list. Raises DataError that names file, row and field."""
    number = whole_number(row[name])
    if number is None:
        raise wrong_content(
            f"{name} is no whole number in {place}: {path}",
            wanted="a whole number",
            found=shown(row[name]),
            remedy=f"correct it in {path.name}",
        )
    return number


def read_meta(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object of a data set. Raises DataError when the file is missing or damaged."""
    require_file(path, what)
    read_text(path, what)
    try:
        return parse_object(path)
    except ValueError as error:
        raise unreadable(path, what, error) from error


def read_text(path: Path, what: str) -> str:
    """Read text in UTF-8, with or without a byte-order mark. Raises DataError that names the byte that is none."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise unreadable(path, what, error) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"the {what} is not text in UTF-8: {path}",
            wanted="UTF-8, which LeRobot writes",
            found=f"byte 0x{data[error.start]:02x} in line {line} (byte {error.start} of the file)",
            remedy="save the file as UTF-8 (it may be GBK, Latin-1 or UTF-16: an editor or iconv converts it)",
        ) from error


def read_json_lines(path: Path, what: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Read one JSON object per line, each with at least `fields`."""
    require_file(path, what)
    rows = []
    # At line feeds only: JSON may hold U+2028 and its like, which splitlines() takes for ends of lines.
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise unreadable(path, what, f"line {number}: {error}") from error
        missing = [field for field in fields if not isinstance(row, dict) or field not in row]
        if missing:
            raise wrong_content(
                f"the {what} is incomplete: {path}",
                wanted=f"an object with {', '.join(fields)} in each line",
                found=f"line {number} has no {', '.join(missing)}",
                remedy=f"complete line {number} of {path.name}",
            )
        rows.append(row)
    return rows


def lacks_end(path: Path) -> bool:
    """Return whether a parquet file begins as one and has no footer: its writer, or its copy, was interrupted."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        return head == b"PAR1" and file.read(4) != b"PAR1"


def machine_memory() -> int:
    """Return the memory of this machine (bytes)."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def open_parquet(path: Path, what: str, episode: int | None = None) -> pq.ParquetFile:
    """Open a parquet file (its footer is read, nothing else).

    Raises DataError for one with more rows than bytes: equal values take no room in a file, and all of it in memory.
    """
    require_file(path, what, episode)
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, what, error, episode) from error
    rows, size = file.metadata.num_rows, path.stat().st_size
    if rows > size:
        file.close()
        raise wrong_content(
            f"the {what}{of_episode(episode)} cannot be one: {path}",
            wanted="rows that differ, and so take some bytes each",
            found=f"{rows:,} rows in {size:,} bytes",
            remedy="write the file anew as LeRobot does",
        )
    return file


def read_parquet(path: Path, what: str, columns: list[str] | None = None, episode: int | None = None) -> pa.Table:
    """Read columns of a parquet file into memory."""
    with open_parquet(path, what, episode) as file:
        try:
            return file.read(columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, what, error, episode) from error
