"""`pi05 train` from the command line on a small data set: what it prints and writes, and how it refuses to go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pi05.checkpoint.run_folder import list_checkpoints
from pi05.checkpoint.store import load_checkpoint
from pi05.cli import main
from pi05.commands.train import read_command
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError, ConfigError, DataError, TrainingError, UserError
from pi05.train.loop import TrainResult, train
from pi05.train.parameters import group_of


def run(flags: list[str]) -> TrainResult:
    return train(read_command(flags).config, console=False)


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == kind]


@pytest.fixture(scope="module")
def base(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, whose checkpoint is the base of others."""
    folder = tmp_path_factory.mktemp("base") / "run"
    run(workshop.flags(folder, steps=12, batch_size=8, log_freq=3, eval_steps=6, save_freq=5, keep_checkpoints=2))
    return folder


def from_base(workshop: Any, base: Path, folder: Path, **settings: object) -> list[str]:
    flags = workshop.flags(folder, policy__path=base, **settings)
    return [flag for flag in flags if not flag.startswith(("--from_scratch", "--policy.tokenizer_path"))]


class TestWhatARunLeavesBehind:
    def test_metrics(self, base: Path) -> None:
        logged = records(base, "train")
        assert [record["step"] for record in logged] == [3, 6, 9, 12]
        assert logged[-1]["samples"] == 96
        assert logged[-1]["loss"] < logged[0]["loss"]
        assert all(np.isfinite(record["grad_norm"]) for record in logged)
        assert [record["step"] for record in records(base, "eval")] == [6, 12]
        assert records(base, "end") == [{"type": "end", "step": 12, "status": "finished"}]

    def test_checkpoints(self, base: Path) -> None:
        """Saved at 5 and 10, at each new best error (6 and maybe 12), and at the end; two are kept, and the best."""
        names = [path.name for path in list_checkpoints(base)]
        best = min(records(base, "eval"), key=lambda record: record["action_error"])
        assert os.readlink(base / "checkpoints" / "last") == "000012"
        assert os.readlink(base / "checkpoints" / "best") == f"{best['step']:06d}"
        assert set(names) == {"000010", "000012", f"{best['step']:06d}"}
        saved = load_checkpoint(base / "checkpoints" / "last", training=True)
        assert saved.config["step"] == 12
        assert saved.config["base"] is None
        assert saved.config["n_action_steps"] == 5
        assert saved.training is not None
        assert saved.training.raw_weights is None
        assert len(saved.training.optimizer) > 100

    def test_the_error_is_measured_in_robot_units_beside_a_baseline(self, workshop: Any, base: Path) -> None:
        record = records(base, "eval")[-1]
        assert set(record["dimensions"]) == {"action_0", "action_1", "action_2"}
        assert all(values["error"] > 0 and values["baseline"] > 0 for values in record["dimensions"].values())
        assert 0.6 < record["baseline_error"] < 1.4, "all frames have one distribution, so it is about 1"

    def test_what_the_model_saw(self, workshop: Any, base: Path) -> None:
        prompts = json.loads((base / "step0" / "prompts.json").read_text())
        assert len(prompts) == 4
        assert all(p["prompt"].startswith(f"Task: {p['task']}, State: ") for p in prompts)
        assert all(p["prompt"].endswith(";\nAction: ") for p in prompts)
        for camera, slot in enumerate(("scene", "left_wrist")):
            for prompt in prompts:
                raw = np.asarray(Image.open(base / "step0" / f"{slot}_{prompt['sample']}_raw.png"))
                seen = np.asarray(Image.open(base / "step0" / prompt["images"][slot]))
                assert raw.shape == seen.shape == (48, 48, 3)
                assert slot != "scene" or not np.array_equal(raw, seen), "crop and rotation always change the scene"
                upright = fakes.numbered_image(prompt["frame"], camera)
                bars = (48 - 36) // 2
                small = np.asarray(Image.fromarray(upright).resize((48, 36), Image.Resampling.BILINEAR))
                assert np.abs(raw[bars : 48 - bars].astype(int) - small).mean() < 6

    def test_the_configuration_gives_the_same_run_again(self, base: Path, tmp_path: Path) -> None:
        again = run([f"--config_path={base / 'config.json'}", f"--output_dir={tmp_path / 'again'}"])
        assert again.last_checkpoint.name == "000012"
        one = (base / "checkpoints" / "000012" / "model.safetensors").read_bytes()
        assert one == (again.last_checkpoint / "model.safetensors").read_bytes()


class TestWhatIsPrinted:
    def test_before_and_during_a_run(self, workshop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        flags = workshop.flags(tmp_path / "run", steps=4, log_freq=2, eval_steps=4, policy__train_expert_only=True)
        assert main(["train", *flags]) == 0
        told = capfd.readouterr().out
        for text in (
            "observation.images.scene → scene",
            "(empty, masked)          → right_wrist",
            "weights: random, drawn from seed 42 (--from_scratch)",
            "held out: episodes ",
            "training: 4 steps of 4 samples = 16 samples = 0.2 epochs of ",
            "learning rate: 0.001 after 0 steps of warm-up, cosine to 0.0001 at step 4",
            "compute: cpu (1 threads), float32 weights, float32 arithmetic",
            "a checkpoint takes ",
            "step 2/4 · samples 8 · epochs ",
            "held out, step 4: action error ",
            "  root mean square error in robot units (of the best baseline): action_0 ",
            f"done: {tmp_path / 'run' / 'checkpoints' / '000004'}",
        ):
            assert text in told, text
        table = {line.split("│")[1].strip(): line.split("│")[2:4] for line in told.splitlines() if line.count("│") == 4}
        assert [cell.strip() for cell in table["vision tower"]] == ["0", "455,168"]
        assert [cell.strip() for cell in table["action expert"]] == ["669,216", "0"]
        assert [cell.strip() for cell in table["all"]] == ["694,112", "1,160,960"]

    def test_a_base_is_loaded_with_a_receipt(
        self, workshop: Any, base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["train", *from_base(workshop, base, tmp_path / "run", steps=1, eval_steps=0)]) == 0
        told = capfd.readouterr().out
        receipt = json.loads((tmp_path / "run" / "receipt.json").read_text())
        assert "1,855,072 parameters read" in told
        assert receipt["sha256"] in told
        saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last").config
        assert saved["base"]["sha256"] == receipt["sha256"]
        assert "the action error is not measured (--eval_steps 0)" in told

    def test_too_few_episodes_to_hold_one_out(
        self, workshop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        flags = workshop.flags(tmp_path / "run", steps=1, dataset__episodes="[0,1,2]")
        assert main(["train", *flags]) == 0
        told = capfd.readouterr().out
        assert "held out: no episode (no task has more than four episodes); all are trained on" in told
        assert not records(tmp_path / "run", "eval")


class TestMethods:
    @pytest.mark.parametrize(
        ("flag", "frozen"),
        [
            ("policy__freeze_vision_encoder", {"vision tower"}),
            ("policy__train_expert_only", {"vision tower", "vision head", "embedding", "language model"}),
        ],
    )
    def test_what_is_frozen_keeps_the_base_weights(
        self, workshop: Any, base: Path, tmp_path: Path, flag: str, frozen: set[str]
    ) -> None:
        settings = {flag: True, "steps": 2, "eval_steps": 0, "ema__enable": True}
        result = run(from_base(workshop, base, tmp_path / "run", **settings))
        before = load_checkpoint(base / "checkpoints" / "last").weights
        after = load_checkpoint(result.last_checkpoint, training=True)
        assert after.training is not None
        assert after.training.raw_weights is not None
        same = {group_of(name) for name in before if torch.equal(before[name], after.weights[name])}
        moved = {group_of(name) for name in before if not torch.equal(before[name], after.weights[name])}
        assert frozen <= same
        assert not frozen & moved
        assert not frozen & {group_of(name) for name in after.training.raw_weights}

    def test_statistics_of_the_base_on_request(self, workshop: Any, base: Path, tmp_path: Path) -> None:
        other = fakes.write_dataset(tmp_path / "other", episodes=(12, 9, 11, 8, 10, 13), seed=5)
        settings = {"dataset__root": other.root, "steps": 1, "eval_steps": 0}
        stored = load_checkpoint(base / "checkpoints" / "last").config["processor"]["action_stats"]
        kept = run(from_base(workshop, base, tmp_path / "kept", **settings, stats="checkpoint"))
        assert load_checkpoint(kept.last_checkpoint).config["processor"]["action_stats"] == stored
        fresh = run(from_base(workshop, base, tmp_path / "fresh", **settings))
        found = DimStats.from_dict(load_checkpoint(fresh.last_checkpoint).config["processor"]["action_stats"])
        assert not np.allclose(found.q99, DimStats.from_dict(stored).q99)

    def test_relative_actions_are_decoded_back(self, workshop: Any, tmp_path: Path) -> None:
        result = run(
            workshop.flags(
                tmp_path / "run", steps=2, eval_steps=2, policy__use_relative_actions=True,
                policy__relative_exclude_joints="[action_2]", allow="[recipe.relative_actions]",
            )
        )  # fmt: skip
        assert load_checkpoint(result.last_checkpoint).config["processor"]["relative_mask"] == [True, True, False]
        assert records(tmp_path / "run", "eval")[0]["baseline_error"] < 1.4


class TestRefusals:
    def test_no_weights_to_start_from(self, workshop: Any, tmp_path: Path) -> None:
        flags = [
            flag for flag in workshop.flags(tmp_path / "run") if "from_scratch" not in flag and "preset" not in flag
        ]
        with pytest.raises((ConfigError, CheckpointError), match="from_scratch"):
            run(flags)

    def test_a_damaged_base(self, workshop: Any, base: Path, tmp_path: Path) -> None:
        weights = load_file(base / "checkpoints" / "last" / "model.safetensors")
        weights.pop("expert.layers.0.mlp.up.weight")
        (tmp_path / "damaged").mkdir()
        for name in ("config.json", "tokenizer.json"):
            (tmp_path / "damaged" / name).write_bytes((base / "checkpoints" / "last" / name).read_bytes())
        save_file(weights, tmp_path / "damaged" / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"1 missing: expert\.layers\.0\.mlp\.up\.weight"):
            run(from_base(workshop, tmp_path / "damaged", tmp_path / "run"))
        assert not (tmp_path / "run").exists(), "a run that never began leaves no folder to trip over"

    def test_cameras_that_should_stay_empty(self, workshop: Any, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="another number of camera slots"):
            run(workshop.flags(tmp_path / "run", policy__empty_cameras=2))

    def test_episodes_that_are_not_there(self, workshop: Any, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"dataset\.episodes names episodes that the data set has not"):
            run(workshop.flags(tmp_path / "run", dataset__episodes="[0,99]"))
        with pytest.raises(ConfigError, match="no episode is left"):
            run(workshop.flags(tmp_path / "run", dataset__episodes="[0]", dataset__exclude_episodes="[0]"))

    def test_a_tokenizer_with_too_many_ids(self, workshop: Any, tmp_path: Path) -> None:
        text = json.loads(workshop.tokenizer.read_text())
        vocabulary = text["model"]["vocab"]
        vocabulary.update({f"<extra{i}>": i for i in range(len(vocabulary), 1100)})
        (tmp_path / "tokenizer.json").write_text(json.dumps(text))
        with pytest.raises(ConfigError, match="does not belong to this network"):
            run(workshop.flags(tmp_path / "run", policy__tokenizer_path=tmp_path / "tokenizer.json"))

    def test_a_gpu_that_is_not_there(self, workshop: Any, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no device cuda:63"):
            run(workshop.flags(tmp_path / "run", policy__device="cuda:63"))


class TestFailures:
    def test_huge_actions_stop_the_run_and_name_frame_and_dimension(self, workshop: Any, tmp_path: Path) -> None:
        """One value of 3e30 is finite and passes every check of the file; squared it is infinite in float32."""
        data = fakes.write_dataset(tmp_path / "data", episodes=(300, 300, 300, 12, 300, 300))
        broken = data.starts[3] + 5
        spoil(data.root, "action", broken, dimension=1, value=3e30)
        settings = {"steps": 400, "batch_size": 64, "eval_steps": 0, "dataset__eval_split": 0.0}
        with pytest.raises(TrainingError) as failure:
            run(workshop.flags(tmp_path / "run", dataset__root=data.root, **settings))
        error = failure.value
        assert "is not finite at step" in error.problem
        assert "(episode 3)" in str(error.found)
        assert "action dimension: 1 (action_1)" in str(error.found)
        assert "--dataset.exclude_episodes '[3]'" in error.remedy
        assert not list_checkpoints(tmp_path / "run")
        assert records(tmp_path / "run", "end")[0]["status"] == "failed"

    def test_a_poisoned_weight_stops_the_run_at_its_first_step(self, workshop: Any, base: Path, tmp_path: Path) -> None:
        """The largest finite float32 passes the loader's checks."""
        folder = tmp_path / "base"
        folder.mkdir()
        for name in ("config.json", "tokenizer.json"):
            (folder / name).write_bytes((base / "checkpoints" / "last" / name).read_bytes())
        weights = load_file(base / "checkpoints" / "last" / "model.safetensors")
        weights["action_out.weight"] = torch.full_like(weights["action_out.weight"], 3e38)
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(UserError, match="the base's loss on 8 frames of this data is nan"):
            run(from_base(workshop, folder, tmp_path / "run", steps=3))
        with pytest.raises(TrainingError, match="the loss is not finite at step 1") as failure:
            run(from_base(workshop, folder, tmp_path / "run", steps=3, allow="base.not_finite"))
        assert "4 of 4 samples" in str(failure.value.found)

    def test_a_full_disk_ends_the_run_and_spares_the_last_checkpoint(
        self, workshop: Any, tmp_path: Path, start: Any
    ) -> None:
        with small_disk(tmp_path / "disk", megabytes=60) as disk:
            flags = workshop.flags(disk / "run", steps=9, save_freq=2, keep_checkpoints=5, eval_steps=0, log_freq=1)
            process = start("train", *flags)
            output = process.communicate(timeout=300)[0]
            assert process.returncode == 2, output
            assert "no room on the disk" in output or "could not be written" in output
            assert "Traceback" not in output
            saved = list_checkpoints(disk / "run")
            assert 1 <= len(saved) <= 3
            load_checkpoint(saved[-1], training=True)
            assert not list((disk / "run" / "checkpoints").glob(".*"))
            subprocess.run(["mount", "-o", "remount,size=300m", str(disk)], check=True)
            assert run(["--resume", str(disk / "run")]).steps == 9


def spoil(root: Path, column: str, row: int, dimension: int, value: float) -> None:
    """Change one number of a v3.0 data set."""
    for path in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        index = table["index"].to_pylist()
        if row in index:
            values = table[column].to_pylist()
            values[index.index(row)][dimension] = value
            position = table.schema.get_field_index(column)
            field = table.schema.field(position)
            pq.write_table(table.set_column(position, field, pa.array(values, field.type)), path)
            return
    raise AssertionError("no such row")


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small file system, where that is allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount program; test_store.py fills the disk through a limit on file sizes")
    if done.returncode:
        pytest.skip("mounting is not allowed here; test_store.py fills the disk through a limit on file sizes")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
