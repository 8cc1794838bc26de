"""Recorded actions repeated in the table-top simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi05.data.lerobot.format_v3 import REPLAY_FILE as NAME
from pi05.errors import ConfigError, DataError
from pi05.eval.replay import Replayed, replay_dataset
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker

SETTINGS = {"env": "tabletop", "family": "demo"}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = expert_maker(DemonstrationChoice(family="demo"))
    return collect_demonstrations(make, 4, tmp_path_factory.mktemp("set") / "data", 7, settings=SETTINGS).folder


def test_what_was_carried_out_succeeds_again(collected: Path) -> None:
    seen: list[Replayed] = []
    found = replay_dataset(collected, (), seen.append)
    assert seen == found
    assert [episode.episode for episode in found] == [0, 1, 2, 3]
    assert all(episode.executed for episode in found)
    assert all(episode.task.startswith("drop the ") for episode in found)
    assert [episode.episode for episode in replay_dataset(collected, (2, 0), seen.append)] == [2, 0]


def test_actions_of_another_unit_do_not(collected: Path, tmp_path: Path) -> None:
    """In centimetres the arm runs off: what replay is there to find."""
    wrong = tmp_path / "data"
    wrong.mkdir()
    for path in collected.iterdir():
        (wrong / path.name).symlink_to(path)
    (wrong / NAME).unlink()
    table = pq.read_table(collected / NAME)
    scaled = [(np.array(row) * 100).tolist() for row in table["executed"].to_pylist()]
    column = table.schema.get_field_index("executed")
    kind = table.schema.field(column)
    pq.write_table(table.set_column(column, kind, pa.array(scaled, kind.type)), wrong / NAME)
    assert not any(episode.executed for episode in replay_dataset(wrong, (), lambda _: None))


def test_what_cannot_be_replayed_is_told(collected: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no episode 4\n.*0 to 3"):
        replay_dataset(collected, (1, 4), lambda _: None)
    make = expert_maker(DemonstrationChoice(family="demo"))
    silent = collect_demonstrations(make, 1, tmp_path / "silent").folder
    with pytest.raises(DataError, match="does not tell how its episodes began"):
        replay_dataset(silent, (), lambda _: None)
    (silent / NAME).write_bytes((collected / NAME).read_bytes())
    with pytest.raises(DataError, match=r"has been changed since.*\n.*4 episodes\n.*1"):
        replay_dataset(silent, (), lambda _: None)
