from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pi05.errors import DataError
from pi05.sim.episodes import Attempt, Step
from pi05.sim.ledger import Ticket
from pi05.sim.staged import staging

SETTINGS = {"suite": "libero_object", "tasks": ("a",)}
CAMERA = "observation.images.image"


def shown(success: bool) -> Attempt:
    generator = np.random.default_rng(1)
    steps = [
        Step(
            {
                CAMERA: generator.integers(0, 256, (4, 6, 3), dtype=np.uint8),
                "observation.state": generator.normal(size=8).astype(np.float32),
                "task": "do it",
            },
            generator.normal(size=7).astype(np.float32),
            generator.normal(size=7).astype(np.float32),
        )
        for _ in range(5)
    ]
    return Attempt("a", 12, generator.normal(size=30), steps, success)


def test_a_success_comes_back_as_it_was(tmp_path: Path) -> None:
    attempt = shown(True)
    with staging(tmp_path / "out", SETTINGS) as staged:
        staged.save(Ticket(2, 7), attempt, [CAMERA])
        staged.save(Ticket(0, 1), shown(False), [CAMERA])
        staged.note_facts({"fps": 20.0})
    with staging(tmp_path / "out", SETTINGS) as staged:
        assert staged.outcomes() == {Ticket(2, 7): "success", Ticket(0, 1): "failure"}
        assert staged.facts() == {"fps": 20.0}
        back = staged.load(Ticket(2, 7))
    assert (back.instruction, back.seed) == ("do it", 12)
    np.testing.assert_array_equal(back.start, attempt.start)  # type: ignore[arg-type]
    np.testing.assert_array_equal(back.pictures[CAMERA], [step.observation[CAMERA] for step in attempt.steps])
    np.testing.assert_array_equal(back.actions, [step.action for step in attempt.steps])
    np.testing.assert_array_equal(back.executed, [step.executed for step in attempt.steps])
    np.testing.assert_array_equal(back.states, [step.observation["observation.state"] for step in attempt.steps])


def test_two_processes_do_not_share_it(tmp_path: Path) -> None:
    with (
        staging(tmp_path / "out", SETTINGS),
        pytest.raises(DataError, match="another process is collecting"),
        staging(tmp_path / "out", SETTINGS),
    ):
        pass


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    with staging(tmp_path / "out", SETTINGS) as staged:
        leftover = staged.folder / ".task000-seed000001.npz.0123abcd.tmp"
        leftover.write_bytes(b"half")
    with staging(tmp_path / "out", SETTINGS) as staged:
        assert staged.outcomes() == {}
        assert not leftover.exists()


def test_nothing_is_left_where_nothing_was_finished(tmp_path: Path) -> None:
    """A simulator that is not installed, a wrong task: no folder for the next one to wonder about."""
    with pytest.raises(RuntimeError), staging(tmp_path / "set", {"env": "libero"}):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
