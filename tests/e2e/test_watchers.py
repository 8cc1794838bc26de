"""A run that is wrong is told so while it goes on: whole runs of the command, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi05.commands.train import read_command
from pi05.errors import TrainingError
from pi05.pages.run import write_run_report
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.train.config import TINY_BASE
from pi05.train.loop import TrainResult, train
from pi05.train.watchers import base_network

SCENE = fakes.CAMERAS[0]


def run(flags: list[str]) -> TrainResult:
    return train(read_command(flags).config, console=False)


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == kind]


def findings(run_dir: Path) -> dict[str, dict[str, Any]]:
    return {record["name"]: record for record in records(run_dir, "watch") if "words" in record}


def from_tiny(workshop: Any, folder: Path, **settings: object) -> list[str]:
    """Return the flags of a run that starts from the packaged base."""
    flags = workshop.flags(folder, policy__path="pi05-tiny", policy__optimizer_lr=3e-4, **settings)
    return [flag for flag in flags if not flag.startswith(("--from_scratch", "--policy.tokenizer_path"))]


@pytest.fixture(scope="module")
def black(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of black pictures of one camera."""
    folder = tmp_path_factory.mktemp("black")
    patch = pytest.MonkeyPatch()
    patch.setattr(fakes, "numbered_image", lambda *_: np.zeros((48, 64, 3), np.uint8))
    fakes.write_dataset(folder / "data", episodes=(9, 8, 10, 9, 8, 9, 8, 9, 8, 9), cameras=fakes.CAMERAS[:1])
    patch.undo()
    return folder / "data"


def test_a_run_on_black_pictures_is_told_that_it_is_blind(
    workshop: Any, black: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The loss falls as usual. One camera, the state and the task move the actions or do not; the camera cannot."""
    folder = tmp_path / "run"
    flags = from_tiny(workshop, folder, dataset__root=black, steps=6, log_freq=3, eval_steps=3, save_freq=6)
    train(read_command(flags).config)
    told = capfd.readouterr().out
    assert "warning: the camera scene has no effect: with black pictures in its place the actions move by 0.000" in told
    assert told.count("the camera scene has no effect") == 1, "once, not at each measurement"
    assert records(folder, "eval")[-1]["effects"]["camera scene"] == 0
    assert records(folder, "eval")[-1]["effects"]["state"] > 0.02, "the other inputs are read"
    finding = findings(folder)["inputs.camera"]
    assert finding["numbers"] == {"camera scene": 0.0}
    assert "step0/" in finding["remedy"]
    page = write_run_report(folder).read_text()
    assert "The camera scene has no effect" in page
    assert "How far the actions move without an input" in page


def test_a_sound_run_from_the_packaged_base_is_told_nothing_and_measures_all(workshop: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(from_tiny(workshop, folder, steps=6, log_freq=3, eval_steps=6, batch_size=8))
    assert findings(folder) == {}
    first, *measures = records(folder, "watch")
    assert (first["name"], first["step"]) == ("base.loss", 1)
    assert first["first_loss_over_zero"] > 0, "the actions of this set are noise, which no base expects"
    assert [record["step"] for record in measures] == [3, 6]
    for record in measures:
        assert sum(record["loss_share"].values()) == pytest.approx(1, abs=1e-4)
        assert set(record["actions_outside"]) == {"action_0", "action_1", "action_2"}
        assert set(record["state_outside"]) == {f"observation.state_{i}" for i in range(4)}
        assert 0.5 < record["weights_changed"] <= 1
        assert 1e-5 < record["update_over_weight"] < 0.1
        assert "adapter_over_base" not in record
    (error,) = records(folder, "eval")
    assert set(error["effects"]) == {"camera scene", "camera wrist", "state", "task"}, "of two tasks"
    assert len(error["error_by_step"]["policy"]) == 10
    assert error["best_baseline_error"] == min(error["baselines"].values()) <= error["baseline_error"]


def test_lora_logs_what_its_adapters_add(workshop: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = {"policy__use_peft": True, "peft__r": 4, "steps": 4, "log_freq": 2, "eval_steps": 0, "save_freq": 2}
    run(from_tiny(workshop, folder, **words))
    ratios = [record["adapter_over_base"] for record in records(folder, "watch") if record["name"] == "measures"]
    assert len(ratios) == 2
    assert 0 < ratios[0] < ratios[1] < 0.1


def damaged_base(folder: Path, damage: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(TINY_BASE, folder)
    weights = load_file(folder / "model.safetensors")
    damage(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def shuffle(weights: dict[str, torch.Tensor]) -> None:
    """Permute the values of every tensor: right names and shapes, wrong values (killer 1)."""
    generator = torch.Generator().manual_seed(0)
    for name, value in weights.items():
        order = torch.randperm(value.numel(), generator=generator)
        weights[name] = value.flatten()[order].view(value.shape)


def test_a_base_with_shuffled_weights_ends_the_run_before_anything_is_saved(workshop: Any, tmp_path: Path) -> None:
    base = damaged_base(tmp_path / "base", shuffle)
    words = {"steps": 2, "log_freq": 1, "eval_steps": 0, "save_freq": 1, "batch_size": 84}
    flags = [flag for flag in from_tiny(workshop, tmp_path / "run", **words) if not flag.startswith("--policy.path")]
    with pytest.raises(TrainingError, match="worse than a network that has learnt nothing") as stop:
        run([*flags, f"--policy.path={base}"])
    assert "--allow=base.loss" in stop.value.remedy
    assert not list((tmp_path / "run" / "checkpoints").glob("0*"))
    flags = [flag for flag in flags if not flag.startswith("--output_dir")]
    allowed = run([*flags, f"--policy.path={base}", f"--output_dir={tmp_path / 'allowed'}", "--allow=base.loss"])
    assert allowed.steps == 2


def scale_embedding(weights: dict[str, torch.Tensor]) -> None:
    """Store the embedding with its scale, as other programs do (killer 2)."""
    weights["embedding.weight"] *= weights["embedding.weight"].shape[1] ** 0.5


def kill_vision(weights: dict[str, torch.Tensor]) -> None:
    """Leave the vision tower's last map at zero."""
    for name in weights:
        if name.startswith("vision.head."):
            weights[name].zero_()


@pytest.mark.parametrize(("damage", "name"), [(scale_embedding, "base.embedding_scale"), (kill_vision, "base.vision")])
def test_a_base_with_a_broken_network_is_refused_before_the_first_step(
    workshop: Any, tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], None], name: str
) -> None:
    """Neither shows in the first loss."""
    base = damaged_base(tmp_path / "base", damage)
    flags = from_tiny(workshop, tmp_path / "run", steps=1, eval_steps=0)
    with pytest.raises(TrainingError, match="the base's network is broken") as stop:
        run([*(flag for flag in flags if not flag.startswith("--policy.path")), f"--policy.path={base}"])
    assert name in str(stop.value.found)
    assert f"--allow='[{name}" in stop.value.remedy
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def collected(folder: Path, turned: bool) -> Path:
    """Collect demonstrations of the scene that the packaged base knows, its camera upside down or not."""
    make = expert_maker(DemonstrationChoice(family="base"))

    def making() -> Any:
        environment, expert = make()
        observe = environment.observe

        def observed() -> Any:
            seen = observe()
            return {**seen, SCENE: seen[SCENE][::-1, ::-1]} if turned else seen

        environment.observe = observed  # type: ignore[method-assign]
        return environment, expert

    collect_demonstrations(making, 6, folder, first_seed=5000)
    return folder


@pytest.mark.parametrize("turned", [True, False])
def test_a_run_is_told_that_its_base_knows_the_pictures_turned(
    tmp_path: Path, turned: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base_network, "REHEARSAL", 2)  # steps
    data, folder = collected(tmp_path / "data", turned), tmp_path / "run"
    flags = [f"--dataset.root={data}", "--preset=tiny", "--policy.path=pi05-tiny", "--eval_steps=0"]
    flags.append("--allow=base.loss")  # known things upside down: the first loss tells, too, that something is wrong
    train(read_command([*flags, f"--output_dir={folder}", "--steps=2", "--dataset.eval_split=0.2"]).config)
    shown = "".join(capfd.readouterr())
    stored = {one["name"]: one for one in json.loads((folder / "checks.json").read_text())["findings"]}
    assert ("warning: base.knows_turned_pictures" in shown) == turned
    assert ("base.knows_turned_pictures" in stored) == turned
    if turned:
        assert stored["base.knows_turned_pictures"]["numbers"]["turn"] == "upside down"
        assert stored["base.knows_turned_pictures"]["numbers"]["camera"] == SCENE


def test_a_frozen_weight_that_moves_ends_the_run(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever writes into the network's weights (here a step that does): no checkpoint is written."""
    import pi05.train.loop as loop

    honest = loop.train_step

    def moving(state: Any, *rest: Any) -> Any:
        result = honest(state, *rest)
        with torch.no_grad():
            state.model.embedding.weight[3, 5] += 1e-3
        return result

    monkeypatch.setattr(loop, "train_step", moving)
    words = {"steps": 2, "log_freq": 1, "eval_steps": 0, "policy__train_expert_only": True}
    with pytest.raises(TrainingError, match="a frozen weight has moved by step 2; no checkpoint was written") as stop:
        run(from_tiny(workshop, tmp_path / "run", **words))
    assert "embedding.weight" in str(stop.value.found)
    assert not list((tmp_path / "run" / "checkpoints").glob("0*"))
