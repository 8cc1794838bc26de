from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from recorded_cases import Demonstrator, Recorded

from pi05.data.lerobot.reader import Dataset
from pi05.eval.open_loop.looks import observe
from pi05.eval.open_loop.predict import noise_of, predict


def chunks_of(case: Recorded, frames: list[int], jitter: float = 1.0, **changes: Any) -> np.ndarray:
    dataset = Dataset(case.data)
    settings = {"draws": 0, "seed": 0, "num_steps": 2, "batch_size": 4, **changes}
    return predict(Demonstrator(dataset, jitter=jitter), lambda f: observe(dataset, [], f), frames, **settings)


def test_without_draws_the_noise_is_zero(case: Recorded) -> None:
    found = chunks_of(case, [0, 3, 20])
    assert found.shape == (1, 3, 10, 3)
    np.testing.assert_array_equal(found, chunks_of(case, [0, 3, 20], jitter=0.0))


def test_draws_depend_on_seed_and_frame_alone(case: Recorded) -> None:
    found = chunks_of(case, [0, 3, 20, 21, 25], draws=2)
    assert found.shape == (2, 5, 10, 3)
    assert not np.allclose(found[0], found[1])
    np.testing.assert_array_equal(chunks_of(case, [21, 3], draws=1, batch_size=1)[0], found[0][[3, 1]])
    assert not np.allclose(chunks_of(case, [0], draws=1, seed=1), found[:1, :1])


def test_noise_of_different_frames_differs(tmp_path: Path, case: Recorded) -> None:
    first, second = noise_of(Demonstrator(Dataset(case.data)), [4, 5], 0, 1, 0)
    assert not np.allclose(first, second)


def test_progress_counts_frames(case: Recorded) -> None:
    told: list[int] = []
    chunks_of(case, [0, 1, 2, 3, 4], batch_size=2, advance=told.append)
    assert told == [2, 2, 1]
