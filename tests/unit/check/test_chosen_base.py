"""Statistics and settings of a base that fit, and that do not in each of the known ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_subjects import JOINTS, found, make_subject, write_set

from pi05.check.chosen_base import check_base
from pi05.check.subject import Base, Subject
from pi05.data.lerobot.reader import Dataset
from pi05.data.statistics import DimStats, compute_statistics

ARM = (True, True, True, False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_set(tmp_path_factory.mktemp("sound") / "set")


@pytest.fixture(scope="module")
def same_robot(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Other demonstrations of the robot, which the base was trained on."""
    return write_set(tmp_path_factory.mktemp("earlier") / "set", seed=7, episodes=10, length=100)


def stats_of(dataset: Dataset, relative: Any = None) -> dict[str, DimStats]:
    mask = None if relative is None else np.array(relative)
    statistics = compute_statistics(dataset, range(dataset.num_episodes), 10, mask)
    return {"state_stats": statistics.state, "action_stats": statistics.action}


def changed(stats: DimStats, factor: float, offset: float) -> DimStats:
    spread = {"std": factor * stats.value("std")}
    places = {name: factor * stats.value(name) + offset for name in ("mean", "min", "max", "q01", "q99")}
    return DimStats(**places, **spread, count=stats.count)


def judged(dataset: Dataset, base: Base, *, used: bool = True, **settings: Any) -> dict[str, Any]:
    return found(check_base(make_subject(dataset, base=base, statistics_of_base=used, **settings)))


@pytest.mark.parametrize("relative", [None, ARM])
def test_statistics_of_the_same_robot_fit(dataset: Dataset, same_robot: Dataset, relative: Any) -> None:
    told = judged(dataset, Base(path="base", **stats_of(same_robot, relative)), relative=relative)
    assert set(told) == {"base.statistics"}
    assert told["base.statistics"].status == "ok"


@pytest.mark.parametrize(
    ("factor", "offset", "kind"),
    [
        (np.pi / 180, 0, "degrees"),
        (180 / np.pi, 0, "radians"),
        (0.01, 0, "percent"),
        (0.001, 0, "millimetres"),
        (1 / 3, 0, "scaled"),
        (1, 0.4, "shifted"),
    ],
)
@pytest.mark.parametrize("used", [True, False])
def test_another_unit_is_told_as_what_it_is(
    dataset: Dataset, same_robot: Dataset, factor: float, offset: float, kind: str, used: bool
) -> None:
    stats = {name: changed(values, factor, offset) for name, values in stats_of(same_robot).items()}
    told = judged(dataset, Base(path="base", **stats), used=used)
    assert set(told) == {"base.statistics_state", "base.statistics_action"}
    assert {finding.status for finding in told.values()} == {"error" if used else "note"}
    assert {finding.numbers["kind"] for finding in told.values()} == {kind}


@pytest.mark.parametrize("run", [None, ARM])
def test_absolute_statistics_with_relative_actions_and_the_reverse(
    dataset: Dataset, same_robot: Dataset, run: Any
) -> None:
    of_base = None if run is not None else ARM
    told = judged(dataset, Base(path="base", **stats_of(same_robot, of_base)), relative=run)
    assert set(told) == {"base.statistics_action"}
    assert told["base.statistics_action"].numbers["kind"] == ("relative" if run is None else "absolute")
    assert "--policy.use_relative_actions" in told["base.statistics_action"].text


def test_placeholder_statistics(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", change=lambda _, s, a: (57.3 * s, 57.3 * a))
    ones = np.ones(len(JOINTS))
    stats = DimStats(q01=-ones, q99=ones, mean=0 * ones, std=ones, count=0)
    told = judged(dataset, Base(path="base", state_stats=stats, action_stats=stats))
    assert {finding.numbers["kind"] for finding in told.values()} == {"identity"}


def test_another_robot_is_a_note_where_its_statistics_are_not_used(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(-300, 300, len(JOINTS))
    strange = DimStats(q01=low, q99=low + 10.0 ** rng.uniform(-2, 3, len(JOINTS)), count=1)
    told = judged(dataset, Base(path="base", state_stats=strange, action_stats=strange), used=False)
    assert {finding.status for finding in told.values()} == {"note"}
    fewer = DimStats(q01=-np.ones(7), q99=np.ones(7), count=1)
    assert set(judged(dataset, Base(path="base", state_stats=fewer, action_stats=fewer), used=False)) == {"base.robot"}


SAME: dict[str, Any] = {"prompt_format": "state", "relative_mask": None, "fps": 10.0}
OTHERS: dict[str, dict[str, Any]] = {
    "base.prompt_format": {"prompt_format": "none"},
    "base.resize": {"resize": "something else"},
    "base.representation": {"relative_mask": [True, True, True, False]},
    "base.rate": {"fps": 20.0},
    "base.tokenizer": {"tokenizer": {"file": "tokenizer.json", "sha256": "0" * 64}},
    "base.new_slots": {"slots": {"scene": None, "left_wrist": None, "right_wrist": None, "dropped": []}},
    "base.slots": {
        "slots": {"scene": "other", "left_wrist": "observation.images.front", "right_wrist": None, "dropped": []}
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_each_setting_of_the_base_that_is_another(dataset: Dataset, name: str) -> None:
    assert judged(dataset, Base(path="base", settings=SAME)) == {}
    told = judged(dataset, Base(path="base", settings=SAME | OTHERS[name]))
    assert set(told) == {name}
    assert told[name].status in ("note", "warning")


def test_the_settings_of_the_run_itself_are_no_finding(dataset: Dataset) -> None:
    subject = make_subject(dataset)
    assert subject.recipe is not None
    base = Base(path="base", settings=subject.recipe.processor.to_dict())
    assert list(check_base(make_subject(dataset, base=base))) == []


def test_a_base_whose_config_was_edited(dataset: Dataset) -> None:
    told = judged(dataset, Base(path="base", edited=["processor.resize"]))
    assert {name: finding.status for name, finding in told.items()} == {"base.edited": "error"}
    assert "processor.resize" in told["base.edited"].text


def test_without_base_or_recipe_nothing_is_said(dataset: Dataset) -> None:
    assert list(check_base(make_subject(dataset))) == []
    assert list(check_base(Subject(dataset=dataset, episodes=[0], base=Base(path="base")))) == []
