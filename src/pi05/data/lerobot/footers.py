"""What the end of a parquet file tells before any value is read: rows, types, and how many values each column holds.

A few words in `meta/` may claim a thousand million rows or numbers; they are compared with these counts before anything
of that size is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pi05.data.lerobot.files import DOWNLOAD_AGAIN, lacks_end, of_episode, open_parquet, wrong_content
from pi05.data.lerobot.layout import EpisodeFiles
from pi05.errors import DataError


@dataclass(frozen=True)
class Footer:
    """The end of one data file."""

    row_groups: list[int]
    """First row of each row group, and the number of rows at the end."""
    kinds: dict[str, pa.DataType]
    """Type of each column."""
    values: dict[str, int]
    """Values of each column in all rows; of a list those in the lists, and one for a row without."""
    unpacked: dict[str, list[int]]
    """Bytes of each column in each row group, before values that are stored once are repeated."""

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return self.row_groups[-1]

    def holds_numbers(self, name: str) -> bool:
        """Return whether a column has one number in each row, be it in a list of its own."""
        kind = self.kinds[name]
        while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind = kind.value_type
        tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        return any(test(kind) for test in tests) and self.values[name] == self.num_rows


def read_footer(path: Path, episode: int | None) -> Footer:
    """Read the footer of a data file. Raises DataError where it cannot be read, or two columns have one name."""
    with open_parquet(path, "data file", episode) as file:
        facts, schema = file.metadata, file.schema_arrow
        groups = [facts.row_group(k) for k in range(facts.num_row_groups)]
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise wrong_content(
                f"the data file{of_episode(episode)} has two columns of one name: {path}",
                wanted="every column once",
                found=", ".join(map(repr, twice)),
                remedy="write the data file anew with each column once",
            )
        values, unpacked, leaf = {}, {}, 0
        for field in schema:
            values[field.name] = sum(group.column(leaf).num_values for group in groups)
            leaves = range(leaf, leaf + _leaves(field.type))
            unpacked[field.name] = [sum(group.column(k).total_uncompressed_size for k in leaves) for group in groups]
            leaf = leaves.stop
        starts = [0, *np.cumsum([group.num_rows for group in groups], dtype=np.int64).tolist()]
        return Footer(starts, {field.name: field.type for field in schema}, values, unpacked)


def require_ends(used: Sequence[EpisodeFiles]) -> None:
    """Raise DataError for data files without an end, naming the episodes that are whole beside them."""
    cut = {path for path in {episode.table for episode in used} if lacks_end(path)}
    if not cut:
        return
    whole = [episode.index for episode in used if episode.table not in cut]
    first = next(episode for episode in used if episode.table in cut)
    going_on = f"--dataset.episodes='[{', '.join(map(str, whole))}]' trains on the episodes that are whole; "
    raise DataError(
        f"the data file of episode {first.index} cannot be read: {first.table}",
        wanted="a parquet file with its footer, which is written last",
        found=f"no footer: the recording or the copy was interrupted; {len(whole)} of {len(used)} episodes are whole",
        remedy=f"{going_on if whole else ''}if the file is whole at its source, {DOWNLOAD_AGAIN}",
        topic="interrupted",
        episodes=[episode.index for episode in used if episode.table in cut],
    )


def _leaves(kind: Any) -> int:
    """Return how many of parquet's flat columns a column is stored as."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields)) if kind.num_fields else 1
