"""From what a user wrote to a folder on this machine: the one place where names of the hub are looked up.

In this order: what is there under that path; the folders that labs keep (`places.py`) in the working directory, beside
scripts/ and in it; LeRobot's home and the hub's cache; then the network, into that cache, unless `--offline` or
HF_HUB_OFFLINE=1. What was found is said in one line, on standard error. Used by `checkpoint/locate.py`,
`checkpoint/policy_options.py`, `data/lerobot/reader.py` and `train/sources.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pi05.errors import CheckpointError, DataError, HubError, UserError, tell
from pi05.files import expand_home
from pi05.revision import read_revision
from pi05.sources.client import endpoints, is_offline, list_repository
from pi05.sources.faults import Say
from pi05.sources.names import FOLDERS, Kind, Source, parse_name
from pi05.sources.places import Search, find_folder, find_local, says_nothing
from pi05.sources.progress import Progress
from pi05.sources.transfer import Transfer
from pi05.sources.wanted import Needed, first_files, metadata_files

WORDS: dict[Kind, str] = {"model": "checkpoint", "dataset": "data set", "tokenizer": "tokenizer", "assets": "assets"}
TELLING_FILE: dict[Kind, str] = {
    "model": "config.json",
    "dataset": "meta/info.json",
    "tokenizer": "tokenizer.json",
    "assets": "README.md",
}
"""A file whose commit is that of the folder."""
_told: set[str] = set()


def tell_from_first(text: str) -> None:
    """Print a line on standard error; of a distributed run's processes from the first."""
    if os.environ.get("RANK", "0") == "0":
        tell(text, aside=True, at_once=True)


def tell_once(text: str) -> None:
    """Print a line once in a process: what is resolved again and again is found at the same place."""
    if text not in _told:
        tell_from_first(text)
    _told.add(text)


def resolve(
    given: str | Path,
    kind: Kind,
    *,
    needed: Needed | None = None,
    first: Callable[[Path], None] | None = None,
    here_only: bool = False,
    say: Say | None = None,
) -> Path:
    """Return the path that `given` means: itself unless it is OWNER/NAME, with @REVISION or not, of a repository.

    `needed` tells of a data set which files are wanted beside its metadata, all of them when not given. `first` gets
    the folder of a model's small files before its weights are fetched. A path at which nothing is comes back as it is:
    its reader knows what to say; so does, with `here_only`, a name that nothing on this machine is. Raises
    CheckpointError or DataError for a name that is not in reach, with what was tried and the command that fetches it.
    """
    path = expand_home(given)
    if path.exists():
        return path
    text = os.fspath(given)
    if text in FOLDERS.values():
        return _say_folder(text, find_folder(text), path, say or tell_once)
    source = parse_name(text, kind)
    if source is None:
        return path
    search = Search()
    found = find_local(source, needed, search)
    if found is None and here_only:
        return path
    if found is None:
        found = _from_network(source, needed, first, search, say or tell_from_first), "fetched into the hub's cache"
    folder, place = found
    noted = read_revision(folder, [folder / TELLING_FILE[source.kind]])
    commit = f"commit {noted[:8]}" if noted else "commit unknown"
    doubt = "; nothing in it says that it is this one" if says_nothing(folder, source) else ""
    (say or tell_once)(f"{WORDS[kind]}: {source} is {folder} ({place}; {commit}{doubt})")
    return folder


def is_name(given: str | Path, kind: Kind) -> bool:
    """Tell whether `given` is looked up as a name: no such path is there, and it could be a repository's."""
    return not expand_home(given).exists() and parse_name(os.fspath(given), kind) is not None


def _say_folder(name: str, found: Path | None, path: Path, say: Say) -> Path:
    if found is None:
        return path
    say(f"{name}: {found}")
    return found


def _from_network(
    source: Source, needed: Needed | None, first: Callable[[Path], None] | None, search: Search, say: Say
) -> Path:
    if is_offline():
        search.tried.append("network: not asked (--offline, or HF_HUB_OFFLINE=1)")
        raise out_of_reach(
            source, search.tried, f"{source.command()}, on a machine with a network, or without --offline"
        )
    try:
        return download(source, needed, first=first, say=say)
    except HubError as error:
        search.tried.append(f"network: {error.found or error.problem}")
        again = "" if "licence" in error.remedy else f"; {source.command()} --mirror=ADDRESS tries others"
        raise out_of_reach(source, search.tried, f"{error.remedy}{again}") from error


def out_of_reach(source: Source, tried: Sequence[str], remedy: str) -> UserError:
    """Return the error for a name that leads nowhere."""
    kind = DataError if source.repo_type == "dataset" else CheckpointError
    usual = f"{source.folder}/ here, beside scripts/ or in it; the hub's cache; the network"
    if source.kind == "tokenizer":
        remedy += "; or give a tokenizer.json of your own: --policy.tokenizer_path=FILE"
    return kind(f"{source} is not in reach", wanted=usual, found="; ".join(tried), remedy=remedy)


def download(
    source: Source,
    needed: Needed | None,
    *,
    first: Callable[[Path], None] | None = None,
    say: Say = tell_from_first,
) -> Path:
    """Fetch what is needed of a repository into the hub's cache, and return the snapshot. Raises HubError."""
    from pi05.sources.cache import fetch_into_cache

    addresses = endpoints()
    listing = list_repository(source, addresses, say)
    transfer = Transfer(listing=listing, endpoints=addresses, say=say, progress=Progress(say))
    if source.kind == "dataset" and needed is not None:
        snapshot = fetch_into_cache(transfer, metadata_files(listing.files))
        return fetch_into_cache(transfer, needed(snapshot, list(listing.files)))
    names = first_files(source, listing.files)
    if not names:
        kind = WORDS[source.kind]
        raise HubError(
            f"{source} holds no {kind}",
            found=", ".join(sorted(listing.files)[:8]) or "no file",
            remedy="check the name",
        )
    small = [name for name in names if name.endswith((".json", "tokenizer.model"))]
    if first is not None and small:
        first(fetch_into_cache(transfer, small))
    return fetch_into_cache(transfer, names)
