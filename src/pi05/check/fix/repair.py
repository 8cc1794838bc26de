"""Write a repaired copy of a data set: all that can be mended without guessing, and a list of it.

The copy grows under a hidden name beside its target and gets its own name when it is whole, opens, and holds the
source's numbers. After Ctrl-C, a full disk or any error nothing is left; what a killed process leaves is removed by the
next one that writes the same copy. The source is only read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pi05.check.fix.account import NAME, Account, make_account
from pi05.check.fix.destination import check_destination
from pi05.check.fix.links import bring_others, copied_bytes, link_videos
from pi05.check.fix.lists import write_lists
from pi05.check.fix.plan import make_plan
from pi05.check.fix.source import read_source
from pi05.check.fix.tables import write_tables
from pi05.check.fix.true_statistics import compute_statistics, sample_pictures, write_statistics
from pi05.check.fix.verify import compare, open_copy
from pi05.errors import DataError, doing
from pi05.files import require_space, sync
from pi05.sources.resolve import resolve
from pi05.temporary import remove_leftovers, rename_folder, temporary_folder

Progress = Callable[[str, int, int], None]
"""Gets what is being done, how much of it is done, and of how much."""


def repair(
    dataset: str | Path,
    out: str | Path,
    *,
    drop_cameras: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
    exclude_episodes: Sequence[int] = (),
    state: Sequence[str] | None = None,
    action: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Account:
    """Write a repaired copy of a data set (folder or OWNER/NAME) to the new folder `out`; return what was done.

    `drop_cameras`, `exclude_episodes` and, with `episodes`, all others are left out of the copy. Raises DataError for a
    place that cannot be, a set of which nothing can be kept, one with a fault that is not mended here, and a full disk.
    """
    root, out = resolve(dataset, "dataset"), Path(out)
    check_destination(root, out)
    tell = progress or (lambda what, done, total: None)
    source = read_source(root, drop_cameras, state, action)
    excluded = {*exclude_episodes, *(e.index for e in source.layout.episodes if episodes and e.index not in episodes)}
    plan = make_plan(source, excluded, lambda done, total: tell("looking at episodes", done, total))
    with doing("write a repaired copy", out, DataError):
        remove_leftovers(out.resolve().parent, out.name)
        room = copied_bytes(plan, out.resolve().parent)
        require_space(
            out.resolve().parent, room, "a repaired copy", DataError, "free disk space, or choose another disk"
        )
        with temporary_folder(out) as folder:
            write_tables(plan, folder, lambda done: tell("writing tables", done, len(plan.kept)))
            statistics = compute_statistics(plan, folder)
            write_lists(plan, folder, statistics)
            links = link_videos(plan, folder)
            account = make_account(plan, statistics, links, bring_others(plan, folder))
            (folder / "meta" / NAME).write_text(json.dumps(account.to_dict(), indent=4, ensure_ascii=False) + "\n")
            data = open_copy(plan, folder, state, action)
            compare(plan, data)
            if not plan.same_frames and (folder / "meta" / "stats.json").is_file():
                pictures = sample_pictures(data, lambda done, total: tell("sampling pictures", done, total))
                write_statistics(folder / "meta" / "stats.json", {**statistics.whole, **pictures})
            _sync(folder)
            rename_folder(folder, out)
            sync(out.resolve().parent)
    return account


def _sync(folder: Path) -> None:
    """Put everything on disk, names of files included."""
    for parent, _, names in os.walk(folder):
        for path in [*(os.path.join(parent, name) for name in names), parent]:
            sync(Path(path))
