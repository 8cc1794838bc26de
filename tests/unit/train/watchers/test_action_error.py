"""Errors of chunks: what is said of them, and what is kept."""

from __future__ import annotations

import numpy as np

from pi05.data.measures.baselines import MEAN_ACTION
from pi05.data.measures.chunk_error import ChunkError
from pi05.train.watchers.action_error import ActionError


def chunk(*error: float, score: float) -> ChunkError:
    return ChunkError(error=np.array(error), by_step=np.array([0.1, 0.2, np.nan]), score=score)


def measured(**baselines: ChunkError) -> ActionError:
    return ActionError(
        names=("x", "y"),
        policy=chunk(0.1, 5.0, score=0.2),
        baselines={name.replace("_", " "): value for name, value in baselines.items()},
        scale=np.array([0.5, 0.0]),
        frames=8,
        episodes=1,
        seconds=0.1,
        effects={"camera top": 0.25, "state": 0.001},
    )


def test_praise_is_against_the_best_baseline() -> None:
    """W6: better than the mean action is no praise where holding the last action does better."""
    mean = chunk(0.4, 0.0, score=0.8)
    good = measured(mean_action=mean, holding_the_last_action=chunk(0.2, 0.0, score=0.4))
    assert good.render(250, best=True).splitlines() == [
        "held out, step 250: action error 0.200 standard deviations, better than the best baseline, holding the last "
        "action 0.400 (mean action 0.800), best so far",
        "  root mean square error in robot units (of the best baseline): x 0.1 (0.2), y 5 (0)",
        "  without each input the actions move, in standard deviations: camera top 0.250, state 0.001",
    ]
    poor = measured(mean_action=mean, holding_the_last_action=chunk(0.05, 0.0, score=0.1))
    assert "no better than the best baseline, holding the last action 0.100 (mean action 0.800)" in poor.render(
        1, False
    )
    assert "better than the best baseline, mean action 0.800\n" in measured(mean_action=mean).render(1, False)


def test_the_record_has_what_pages_and_trackers_need() -> None:
    record = measured(mean_action=chunk(0.4, 0.0, score=0.8), nearest=chunk(0.2, 0.0, score=0.4)).record(250, True)
    assert (record["action_error"], record["baseline_error"], record["best_baseline_error"]) == (0.2, 0.8, 0.4)
    assert record["best_baseline"] == "nearest"
    assert record["baselines"] == {MEAN_ACTION: 0.8, "nearest": 0.4}
    assert record["dimensions"]["x"] == {"error": 0.1, "baseline": 0.4, "best_baseline": 0.2, "deviation": 0.5}
    assert record["error_at"] == {"first": 0.1, "middle": 0.2}, "the last step lies in no episode"
    assert record["error_by_step"]["policy"][:2] == [0.1, 0.2]
    assert record["effects"] == {"camera top": 0.25, "state": 0.001}
