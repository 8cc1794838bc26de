"""LIBERO's tasks and initial states, read without LIBERO."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from libero_here import needs_libero

from pi05.errors import ConfigError, EvaluationError
from pi05.sim.libero import tasks
from pi05.sim.libero.config import SUITES
from pi05.sim.libero.tasks import LiberoTask, choose_tasks, initial_states, tasks_of

STOVE = LiberoTask("libero_10", "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it")
MILK = LiberoTask("libero_object", "pick_up_the_milk_and_place_it_in_the_basket")


def test_an_instruction_is_the_name_without_its_scene() -> None:
    assert (STOVE.scene, STOVE.instruction) == ("KITCHEN_SCENE3", "turn on the stove and put the moka pot on it")
    assert (MILK.scene, MILK.instruction) == ("", "pick up the milk and place it in the basket")


@needs_libero
def test_130_tasks_with_50_states_each() -> None:
    assert [len(tasks_of(suite)) for suite in SUITES] == [10, 10, 10, 10, 90]
    everything = [task for suite in SUITES for task in tasks_of(suite)]
    assert all(task.problem_file.is_file() for task in everything)
    for task in everything:
        states = initial_states(task)
        assert states.shape[0] == 50
        assert np.isfinite(states).all()
        assert (states[:, 0] >= 0).all()  # time


@needs_libero
def test_the_states_are_those_that_torch_reads() -> None:
    import torch

    for task in (STOVE, MILK):
        assert np.array_equal(initial_states(task), torch.load(task.initial_states_file, weights_only=False))


@needs_libero
def test_tasks_are_chosen_by_name() -> None:
    assert choose_tasks("libero_object", ()) == tasks_of("libero_object")
    assert choose_tasks("libero_object", [MILK.name, MILK.name]) == (MILK,)
    with pytest.raises(ConfigError, match=r"(?s)libero_object has no task pick_up_the_moon.*names of its tasks: pick"):
        choose_tasks("libero_object", ["pick_up_the_moon"])


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize("content", [pickle.dumps(_Evil()), pickle.dumps({"a": print}), b"", None])
def test_nothing_but_an_array_comes_out(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "init_files" / "libero_object" / "damaged.pruned_init"
    path.parent.mkdir(parents=True)
    if content is not None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
        path.write_bytes(buffer.getvalue())
    monkeypatch.setattr(tasks, "package_folder", lambda: tmp_path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        initial_states(LiberoTask("libero_object", "damaged"))


def test_any_byte_may_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal, or numbers: nothing else."""
    whole = pickle.dumps(np.arange(150.0).reshape(50, 3), protocol=2)
    folder = tmp_path / "init_files" / "libero_object"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tasks, "package_folder", lambda: tmp_path)
    refused = 0
    for place in range(0, len(whole), 3):
        content = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        with zipfile.ZipFile(folder / f"{place}.pruned_init", "w") as archive:
            archive.writestr("archive/data.pkl", content)
        try:
            states = initial_states(LiberoTask("libero_object", str(place)))
        except EvaluationError:
            refused += 1
        else:
            assert states.shape[0] == 50
    assert refused > 20
    for rows in (49, 51):
        with zipfile.ZipFile(folder / f"rows_{rows}.pruned_init", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(np.zeros((rows, 3)), protocol=2))
        with pytest.raises(EvaluationError, match=rf"50 rows of numbers(?s:.*)an array of shape \({rows}, 3\)"):
            initial_states(LiberoTask("libero_object", f"rows_{rows}"))
