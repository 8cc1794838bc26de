"""Which files the chosen episodes of a data set need, told by its metadata alone.

In v2.0 and v2.1 each episode has files of its own; in v3.0 several share one, which then comes whole. Sets whose
pictures lie beside the tables need all of those.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path

from pi05.data.lerobot.layout import DatasetLayout, IsUsed
from pi05.data.lerobot.meta import find_layout
from pi05.sources.wanted import Needed

PICTURE_FOLDER = "images/"


def needed_files(
    episodes: Collection[int] | None = None, unused: Collection[int] = (), drop_cameras: Sequence[str] = ()
) -> Needed:
    """Return what tells the files of the chosen episodes, as `pi05.sources` asks for it."""
    chosen = None if episodes is None else frozenset(episodes)
    return functools.partial(_needed, chosen=chosen, unused=frozenset(unused), drop_cameras=tuple(drop_cameras))


def _needed(
    root: Path,
    listed: Sequence[str],
    *,
    chosen: frozenset[int] | None,
    unused: frozenset[int],
    drop_cameras: tuple[str, ...],
) -> list[str]:
    """Return paths in the data set. `listed` are the names that its repository has, where they are known."""

    def is_used(episode: int) -> bool:
        return episode not in unused and (chosen is None or episode in chosen)

    layout = find_layout(root, drop_cameras, is_used, all_there=False)
    names = dict.fromkeys(_of(layout, is_used))
    if not listed:
        return list(names)
    there = set(listed)
    found = [name for name in (_listed(name, there) for name in names) if name is not None]
    return [*found, *(name for name in listed if name.startswith(PICTURE_FOLDER))]


def _of(layout: DatasetLayout, is_used: IsUsed) -> list[str]:
    paths = [episode.table for episode in layout.episodes if is_used(episode.index)]
    for episode in layout.episodes:
        if is_used(episode.index):
            paths += [clip.path for clip in episode.clips.values()]
    return [path.relative_to(layout.root).as_posix() for path in paths]


def _listed(name: str, there: set[str]) -> str | None:
    """Return the name under which a repository has a file: some sets have it in another chunk folder than they say."""
    if name in there:
        return name
    parts = name.split("/")
    plain = [part for part in parts if not part.startswith("chunk-")]
    others = [
        other
        for other in there
        if other.endswith(parts[-1]) and [part for part in other.split("/") if not part.startswith("chunk-")] == plain
    ]
    return others[0] if len(others) == 1 else None
