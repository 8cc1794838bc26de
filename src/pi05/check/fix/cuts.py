"""Which idle ends of which episodes are cut, and which cannot be.

In v3.0 the list says where an episode begins and ends in a video, so that rows and pictures go together. In v2.x an
episode is a whole video: its pictures could not go without encoding it anew, and rows never go without theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pi05.check.fix.idle import idle_frames, pictures_rest
from pi05.check.fix.judge import join
from pi05.check.fix.source import Place, Source
from pi05.data.lerobot.clips import Clips
from pi05.data.lerobot.columns import RowGroups, Table
from pi05.data.lerobot.files import read_parquet
from pi05.data.lerobot.layout import EpisodeFiles, is_camera
from pi05.data.lerobot.pictures import Pictures

Cuts = dict[int, tuple[int, int]]
"""By episode: frames to leave out at its start and at its end."""


def find_cuts(
    source: Source, episodes: Sequence[tuple[EpisodeFiles, Place]], range_: np.ndarray
) -> tuple[Cuts, dict[int, int]]:
    """Return the cuts, and the episodes with idle ends that cannot be cut, with how many frames these are."""
    cuts: Cuts = {}
    left: dict[int, int] = {}
    clips, groups = Clips(source.layout.fps, check_clocks=False), RowGroups()
    features = source.layout.features
    cameras = [name for name, feature in features.items() if is_camera(feature)]
    own_video = bool(source.cameras) and source.version != "v3.0"
    known, table = None, None
    for files, place in episodes:
        if place.table != known:
            known, table = place.table, read_parquet(place.table, "data file", source.columns)
        rows = table.slice(place.first, place.count)
        state, action = join(source, {name: rows[name] for name in rows.column_names})
        start, end = idle_frames(state, action, range_, source.layout.fps)
        if (start or end) and own_video:
            left[files.index] = start + end
            continue
        last = place.count - 1
        there = replace(files, table=place.table, first_row=place.first, length=place.count)
        pictures = Pictures(source.root, features, {place.table: Table(place.table, [there])}, clips, groups)
        for camera in cameras if start or end else ():
            picture = partial(pictures.one, camera, there)
            start = start if start and pictures_rest(picture, 0, start) else 0
            end = end if end and pictures_rest(picture, last - end, last) else 0
        if start or end:
            cuts[files.index] = (start, end)
    return cuts, left
