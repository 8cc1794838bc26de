from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pi05 import Dataset, cli
from pi05.commands.collect import CollectConfig
from pi05.sim.config import DemonstrationChoice

LIBERO = ["collect", "--output=out", "--env=libero"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (LIBERO, "add --suite=libero_object"),
        ([*LIBERO, "--suite=libero_object", "--episodes=5"], "use --episodes-per-task"),
        ([*LIBERO, "--suite=libero_object", "--episodes-per-task=0"], "1 or more"),
        ([*LIBERO, "--suite=libero_object", "--workers=5000"], "no memory for 5000 simulators"),
        ([*LIBERO, "--suite=libero_object", "--joint-noise=0.5"], "0 to 0.1"),
        ([*LIBERO, "--suite=libero_object", "--image-size=65"], "an even number"),
        (["collect", "--output=out", "--workers=2"], "add --env=libero"),
        (["collect", "--output=out", "--episodes-per-task=2"], "add --env=libero"),
        (["collect"], "add --output=FOLDER"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err


def test_what_makes_the_simulator_again_is_kept_with_the_data() -> None:
    config = CollectConfig(env="libero", suite="libero_goal", tasks=("a",), output="out", episodes_per_task=3, seed=4)
    kept = config.simulator()
    assert DemonstrationChoice(**kept | {"tasks": tuple(kept["tasks"]), "allow": ()}) == DemonstrationChoice(
        env="libero", suite="libero_goal", tasks=("a",)
    )
    assert not {"output", "episodes_per_task", "workers", "seed"} & set(kept)


def test_sets_of_two_seeds_hold_no_episode_twice(tmp_path: Path) -> None:
    for seed in ("0", "1"):
        words = ["collect", f"--output={tmp_path / seed}", "--episodes=3", "--seed", seed]
        assert cli.main(words) == 0
    one, two = (Dataset(tmp_path / seed) for seed in ("0", "1"))
    for first in one.episodes:
        for second in two.episodes:
            assert not np.array_equal(one.states()[first.start], two.states()[second.start])
