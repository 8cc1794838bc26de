"""Where a repository may lie on this machine already: the folders that labs keep, LeRobot's home, the hub's cache.

Looks, and sends nothing. Folders go by their names and by what they say of themselves: one that says that it is of
another repository or another commit is not taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pi05.errors import UserError
from pi05.files import read_notes
from pi05.revision import read_revision
from pi05.sources.cache import cache_folders, find_snapshot, lerobot_home
from pi05.sources.names import DATASET_FOLDER, FOLDERS, Source
from pi05.sources.receipt import read_receipt
from pi05.sources.wanted import INDEX, WEIGHTS, Needed

SCRIPTS = "PI05_SCRIPTS"
"""Environment variable in which the three scripts say where they lie."""
_TOLD_BY = {"model": "config.json", "dataset": "meta/info.json", "assets": "", "tokenizer": ""}


@dataclass
class Search:
    """What has been looked at, and what was found there."""

    tried: list[str] = field(default_factory=list)


def lab_folders() -> Iterator[tuple[Path, str]]:
    """Yield the folders in which labs keep theirs, and in words which those are."""
    here = Path.cwd()
    given = os.environ.get(SCRIPTS)
    scripts = [Path(given)] if given else [here] if here.name == "scripts" else []
    scripts += [here / "scripts"] if (here / "scripts").is_dir() else []
    seen: set[Path] = set()
    for folder, words in [
        (here, "in the working directory"),
        *((folder.absolute().parent, "beside scripts/") for folder in scripts),
        *((folder.absolute(), "in scripts/") for folder in scripts),
    ]:
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            yield folder, words


def find_folder(name: str) -> Path | None:
    """Return a folder of one of the labs' own names; None where it is in none of the places."""
    return next((folder / name for folder, _ in lab_folders() if (folder / name).exists()), None)


def find_local(source: Source, needed: Needed | None, search: Search) -> tuple[Path, str] | None:
    """Return the first place on this machine that holds what is wanted, and in words which it is."""
    for path, words in _folders(source):
        found = _lacks(path, source) or _is_another(path, source)
        if found is None:
            return path, f"folder {words}"
        search.tried.append(f"{path}: {found}")
    for cache in cache_folders():
        snapshot = find_snapshot(cache, source)
        found = "not in it" if snapshot is None else _lacks(snapshot, source) or _lacks_files(snapshot, needed)
        if snapshot is not None and found is None:
            return snapshot, "the hub's cache"
        search.tried.append(f"cache {cache}: {found}")
    return None


def _folders(source: Source) -> Iterator[tuple[Path, str]]:
    for folder, words in lab_folders():
        names = dict.fromkeys([source.folder, source.name.rpartition("/")[2]])
        for name in names:
            if (folder / name).exists():
                yield folder / name, words
    if source.repo_type == "dataset" and (lerobot_home() / source.name).is_dir():
        yield lerobot_home() / source.name, "in LeRobot's home"


def _lacks(path: Path, source: Source) -> str | None:
    """Return what a place does not have that what is wanted consists of; None where it is complete."""
    lacking: Callable[[Path], str | None] = {
        "model": lacks_weights,
        "tokenizer": lacks_tokenizer,
        "dataset": _lacks_metadata,
        "assets": _lacks_everything,
    }[source.kind]
    return lacking(path)


def lacks_weights(path: Path) -> str | None:
    """Return that a folder holds no weights, or which shard is not there; None where they are."""
    places = (path, path / "pretrained_model", path / "checkpoints" / "last" / "pretrained_model")
    for place in places:
        shards = read_notes(place / INDEX).get("weight_map")
        if isinstance(shards, dict) and not (place / WEIGHTS).is_file():
            gone = sorted({str(name) for name in shards.values() if not (place / str(name)).is_file()})
            return f"no {gone[0]}" if gone else None
        if any((place / name).is_file() for name in (WEIGHTS, "adapter_model.safetensors")):
            return None
    if (path / "params").is_dir() or (path / "checkpoints").is_dir():
        return None
    steps = [folder for folder in path.glob("*") if folder.name.isdigit()] if path.is_dir() else []
    return None if steps else "no weights"


def lacks_tokenizer(path: Path) -> str | None:
    """Return that a place holds no tokenizer; None where it does."""
    if path.is_file():
        return None
    names = (path / folder / name for folder in ("", "tokenizer") for name in ("tokenizer.json", "tokenizer.model"))
    return None if any(name.is_file() for name in names) else "no tokenizer"


def _lacks_metadata(path: Path) -> str | None:
    return None if (path / "meta" / "info.json").is_file() else "no data set"


def _lacks_everything(path: Path) -> str | None:
    return None if path.is_dir() and any(path.iterdir()) else "nothing"


def _lacks_files(snapshot: Path, needed: Needed | None) -> str | None:
    """Return how many files of a data set's chosen part are not there."""
    if needed is None:
        return None
    try:
        names = needed(snapshot, ())
    except UserError as error:  # half of the metadata; whether it can be completed is seen next
        return error.problem
    gone = [name for name in names if not (snapshot / name).is_file()]
    return f"no {gone[0]}" + (f", and {len(gone) - 1} more files" if len(gone) > 1 else "") if gone else None


def _is_another(path: Path, source: Source) -> str | None:
    """Return that a folder is of another repository or commit; None where it is of this one, or may be."""
    receipt = read_receipt(path)
    usual = source.folder == path.name and (source.name in FOLDERS or path.name == DATASET_FOLDER)
    in_home = path == lerobot_home() / source.name
    if receipt is None and not usual and not in_home:
        return "nothing says that it is of this repository"
    if receipt is not None and receipt.name != source.name:
        return f"of {receipt.name}"
    if source.revision is None:
        return None
    commit = read_revision(
        path, [path / _TOLD_BY[source.kind]] if receipt is None else [path / next(iter(receipt.files))]
    )
    if receipt is not None and receipt.revision == source.revision:
        return None
    if commit is None or not commit.startswith(source.revision):
        return f"of {f'commit {commit[:8]}' if commit else 'an unknown commit'}"
    return None


def says_nothing(path: Path, source: Source) -> bool:
    """Tell whether a folder is taken for a repository because of its name alone."""
    return read_receipt(path) is None and path != lerobot_home() / source.name and "snapshots" not in path.parts
