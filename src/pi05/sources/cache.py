"""The cache of the hub's client, on the disk: what it holds of a repository, and how a file gets its place there.

CACHE/{models,datasets}--OWNER--NAME/refs/REVISION          a commit
                                     blobs/HASH             contents, by SHA-256 or git's SHA-1
                                     snapshots/COMMIT/PATH  links to them
The layout is the client's (huggingface_hub's guide "Understand caching"), so that either finds what the other fetched.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pi05.files import write_atomic
from pi05.sources.client import Listing, RemoteFile
from pi05.sources.names import Source
from pi05.sources.transfer import Item, Transfer, alone
from pi05.temporary import temporary_name

PART = ".pi05-part"
LEROBOT_TAGS = ("v3.0", "v2.1", "v2.0")


def cache_folders() -> list[Path]:
    """Return the caches to look into: the hub's client's, then LeRobot's own."""
    return list(dict.fromkeys([hub_cache(), lerobot_home() / "hub"]))


def hub_cache() -> Path:
    """Return the cache that downloads go to."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _expanded(os.environ[name])
    return _hub_home() / "hub"


def lerobot_home() -> Path:
    """Return the folder in which LeRobot keeps data sets, each under its name."""
    given = os.environ.get("HF_LEROBOT_HOME")
    return _expanded(given) if given else _hub_home() / "lerobot"


def _hub_home() -> Path:
    if os.environ.get("HF_HOME"):
        return _expanded(os.environ["HF_HOME"])
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"


def _expanded(text: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(text)))


def repository_folder(cache: Path, source: Source) -> Path:
    """Return the folder of a repository in a cache."""
    return cache / f"{source.repo_type}s--{source.name.replace('/', '--')}"


def find_snapshot(cache: Path, source: Source) -> Path | None:
    """Return the snapshot that a revision means, a branch or tag as it was when it was fetched.

    Without a revision that of main; of a data set else that of the tag by which LeRobot fetches it.
    """
    folder = repository_folder(cache, source)
    names = [source.revision or "main", *(LEROBOT_TAGS if source.revision is None and source.kind == "dataset" else ())]
    reference = next((folder / "refs" / name for name in names if (folder / "refs" / name).is_file()), None)
    commit = names[0] if reference is None else reference.read_text(encoding="utf-8").strip()
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    found = [path for path in snapshots if path.name == commit]
    if not found and re.fullmatch(r"[0-9a-f]{7,40}", commit):
        found = [path for path in snapshots if path.name.startswith(commit)]
    return found[0] if len(found) == 1 else None


def fetch_into_cache(transfer: Transfer, names: Sequence[str]) -> Path:
    """Fetch files of a repository into the cache, and return the snapshot. Raises HubError."""
    listing = transfer.listing
    folder = repository_folder(hub_cache(), listing.source)
    snapshot = folder / "snapshots" / listing.commit
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / ".pi05-lock", str(listing.source), transfer.say):
        files: dict[str, list[RemoteFile]] = {}
        for name in names:
            if not (snapshot / name).is_file():
                files.setdefault(listing.files[name].tag, []).append(listing.files[name])
        items = []
        for same in files.values():
            settle = partial(_settle, snapshot=snapshot, folder=folder, files=same)
            blob = folder / "blobs" / same[0].tag
            if blob.is_file() and blob.stat().st_size == same[0].size:
                settle(blob)
            else:
                items.append(Item(file=same[0], part=blob.with_name(blob.name + PART), settle=settle))
        if items:
            transfer.run(items, folder)
        _note_revision(folder, listing)
    return snapshot


def _settle(part: Path, *, snapshot: Path, folder: Path, files: Sequence[RemoteFile]) -> None:
    """Name the content by its hash, and let the snapshot's files be links to it."""
    blob = folder / "blobs" / files[0].tag
    if part != blob:
        part.replace(blob)
    for file in files:
        place = snapshot / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(place)
        try:
            temporary.symlink_to(os.path.relpath(blob, place.parent))
        except OSError:  # a file system without links
            shutil.copyfile(blob, temporary)
        temporary.replace(place)


def _note_revision(folder: Path, listing: Listing) -> None:
    """Write which commit a branch or tag means, as the client does."""
    revision = listing.source.revision or "main"
    if not listing.commit.startswith(revision):
        write_atomic(folder / "refs" / revision, listing.commit.encode())
