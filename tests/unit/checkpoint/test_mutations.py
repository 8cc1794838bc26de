"""Every small file that a user can bring, damaged in one place at a time: it works, or an error names the file.

Seeded: a field of another type, out of range, gone, twice, nested without end, a byte changed, the file cut off. What
is damaged in a way that the program may understand (a note, a name) may work; nothing may end in another exception.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from mutations import mutate, survive
from PIL import Image
from report_pages import watched_records

from pi05.checkpoint.file_fields import AdapterNames, read_fields
from pi05.checkpoint.lerobot.tokenizer_name import tokenizer_name
from pi05.checkpoint.load import read_config
from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.config import read_adapter_config
from pi05.checkpoint.peft.locate_base import locate_base
from pi05.checkpoint.policy_folder import read_processor
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.store import read_training_state
from pi05.data.lerobot.provenance import DatasetFacts, describe_dataset, read_license
from pi05.data.tokenizer import Tokenizer
from pi05.pages.run import run_page
from pi05.settings.fields import find_fault
from pi05.train.config import TINY_BASE, TrainConfig
from pi05.train.records.config import WandbConfig
from pi05.train.records.history import read_history
from pi05.train.records.read import read_run
from pi05.train.records.sinks import JsonlSink, RunInfo
from pi05.train.records.wandb import run_id_of
from pi05.train.resume import read_run_config

INFO = RunInfo(name="run", run_dir=Path(), config={}, first_step=2, total_steps=2)


def open_policy(folder: Path) -> None:
    """Read what opening a policy reads before the weights."""
    location = locate(folder)
    base = locate_base(location)
    sizes = read_config(location, base)
    openpi = PolicyOptions(prompt_format="state", horizon=10) if location.kind == "openpi" else None
    source = read_processor(location, sizes, openpi)
    source.processor.describe()
    source.processor.encode_prompts(["a task"], source.processor.state_stats.value("q01")[None])
    if location.adapter is not None:
        read_adapter_config(location.adapter)


@pytest.mark.parametrize("name", ["config.json"])
def test_a_checkpoint_of_ours(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY_BASE, tmp_path / "own"))
    assert min(survive(folder / name, open_policy, "own")) > 5


@pytest.mark.parametrize("name", ["config.json", "policy_preprocessor.json", "policy_postprocessor.json", "pi05.json"])
def test_a_folder_of_lerobot(name: str, exported_copy: Path) -> None:
    assert min(survive(exported_copy / name, open_policy, "lerobot")) > 5


@pytest.mark.parametrize("name", ["pi05.json", "norm_stats.json"])
def test_a_folder_of_openpi(name: str, exported: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported["openpi"], tmp_path / "openpi"))
    (file,) = folder.rglob(name)
    assert min(survive(file, lambda _: open_policy(folder), "openpi")) > 5


def test_the_settings_of_an_adapter(tmp_path: Path) -> None:
    values = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {},
        "modules_to_save": ["action_in_proj"],
        "layers_to_transform": [0, 1],
        "layers_pattern": "layers",
        "use_dora": False,
        "bias": "none",
        "base_model_name_or_path": "base",
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    assert min(survive(tmp_path / "adapter_config.json", read_adapter_config, "peft")) > 5


def test_the_state_of_a_run(tmp_path: Path) -> None:
    values = {
        "step": 20,
        "seed": 0,
        "rng": "follows from seed and position",
        "loader": {"seed": 0, "frames": 100, "position": 20},
        "schedule": {"peak": 1e-4, "warmup_steps": 10, "decay_steps": 100, "end": 1e-5},
        "ema": False,
        "moments": 40,
        "world_size": 1,
        "samples_per_step": 8,
        "samples": 160,
        "best": {"error": 0.5, "step": 10},
        "data": {"statistics": "abc", "train_episodes": [0, 1], "held_out": [2]},
        "versions": {"pi05": "0.1.0", "torch": "2.7"},
    }
    file = tmp_path / "training_state" / "state.json"
    file.parent.mkdir()
    file.write_text(json.dumps(values))
    assert min(survive(file, lambda folder: read_training_state(folder.parent), "state")) > 5


RUN = {
    "config.json": {"steps": 20, "policy": {"use_peft": True, "train_expert_only": False}, "peft": {"r": 4}},
    "receipt.json": {"source": "base", "layout": "pi05", "loaded": ["a", "b"], "files": {"model.safetensors": "abc"}},
    "history.json": {"sessions": [{"started": "2026-11-29T10:00:00", "first_step": 0, "machine": {"gpu": None}}]},
    "eval-tabletop-1/results.json": {
        "success": {"successes": 1, "trials": 2, "rate": 0.5, "wilson_low": 0.1, "wilson_high": 0.9},
        "date": "2026-11-29",
        "config": {"seed": 1},
        "policy": {"path": "run/checkpoints/000020", "step": 20},
        "environment": {"name": "tabletop", "family": "demo"},
        "machine": {"gpu": None, "processor": "one"},
        "simulator_exceptions": 0,
    },
    "step0/prompts.json": [{"sample": 0, "frame": 3, "prompt": "a task", "tokens": 4, "images": {"scene": "a.png"}}],
}
METRICS = (
    {"type": "train", "step": 1, "loss": 1.5, "samples": 8, "epochs": 0.1, "samples_per_second": 3.0, "data_wait": 0.1},
    {"type": "eval", "step": 2, "action_error": 0.5, "baseline_error": 1.0, "dimensions": {"x": {"error": 0.1}}},
    *watched_records(),
    {"type": "end", "step": 2, "status": "finished"},
)


@pytest.mark.parametrize("name", [*RUN, "metrics.jsonl"])
def test_the_files_that_a_report_shows(name: str, tmp_path: Path) -> None:
    """A report tells what it cannot read, and shows the rest."""
    for file, values in RUN.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(values))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in METRICS))

    def use(_: Path) -> None:
        assert "<html" in run_page(read_run(tmp_path))
        read_history(tmp_path)
        JsonlSink(tmp_path / "metrics.jsonl").start(INFO)

    if name != "metrics.jsonl":
        worked, refused = survive(tmp_path / name, use, "run", 60)
        assert (worked, refused) == (60, 0)
        return
    rng = random.Random("metrics")
    for _ in range(60):
        number = rng.randrange(len(METRICS))
        lines = [json.dumps(record).encode() for record in METRICS]
        lines[number] = mutate(json.dumps(METRICS[number]), rng)
        (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
        use(tmp_path)


def test_a_tokenizer(tmp_path: Path) -> None:
    """Read, and used on what it may not know."""
    file = Path(shutil.copy(TINY_BASE / "tokenizer.json", tmp_path))

    def use(folder: Path) -> None:
        tokenizer = Tokenizer.load(folder)
        tokenizer.decode(tokenizer.encode("put the red block there: 放到 0 255 ;\n"))

    assert min(survive(file, use, "tokenizer", 100)) > 3  # nearly all of it are numbers of tokens


def test_what_an_export_is_relocated_by(exported_copy: Path) -> None:
    assert min(survive(exported_copy / "policy_preprocessor.json", tokenizer_name, "relocate", 100)) > 5


def test_the_base_that_an_adapter_names(tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": "base", "r": 4}))
    assert min(survive(file, lambda _: read_fields(file, AdapterNames), "name", 100)) > 5


def test_the_configuration_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(TrainConfig(from_scratch=True).to_json())
    assert min(survive(file, lambda _: read_run_config(file), "run", 100)) > 5


def test_the_tracker_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "wandb.json"
    file.write_text(json.dumps({"run_id": "1a2b", "mode": "offline", "project": None}))
    assert min(survive(file, lambda folder: run_id_of(folder, WandbConfig()), "wandb", 100)) > 5


INFO_OF_DATA = {
    "codebase_version": "v3.0",
    "robot_type": "arm",
    "fps": 30,
    "total_episodes": 3,
    "total_frames": 90,
    "total_tasks": 1,
    "license": "mit",
    "features": {"observation.images.top": {"dtype": "video", "shape": [48, 64, 3]}, "action": {"dtype": "float32"}},
}


def test_what_is_told_of_a_data_set_is_of_its_kind(tmp_path: Path) -> None:
    """Facts for a card: what cannot be is not told. A run's notes of them are read strictly."""
    (tmp_path / "meta").mkdir()
    file = tmp_path / "meta" / "info.json"
    file.write_text(json.dumps(INFO_OF_DATA))

    def use(_: Path) -> None:
        assert find_fault(DatasetFacts, describe_dataset(tmp_path, "lab/cubes")) is None

    assert survive(file, use, "data", 100) == (100, 0)
    notes = tmp_path / "dataset.json"
    notes.write_text(json.dumps(describe_dataset(tmp_path, "lab/cubes")))
    assert min(survive(notes, lambda _: read_fields(notes, DatasetFacts), "notes", 100)) > 5


@pytest.mark.parametrize("text", ["license: 2026-99-99", "license: &a [*a]", "license: " + "[" * 5000, "- x", "\x00"])
def test_a_card_of_a_data_set_that_is_odd(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n{text}\n---\n")
    assert read_license(tmp_path)[1] in (None, "README.md")


def test_a_report_shows_no_picture_from_elsewhere(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "private.png")
    folder = tmp_path / "run" / "step0"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    os.mkfifo(folder / "pipe.png")
    images = {"a": "../../private.png", "b": str(tmp_path / "private.png"), "c": "pipe.png", "d": "/dev/zero"}
    (folder / "prompts.json").write_text(json.dumps([{"images": images}]))
    run = read_run(tmp_path / "run")
    assert [list(sample.pictures) for sample in run.samples] == [[]]
    assert sum("step0" in line for line in run.missing) >= 4


def test_the_same_seed_makes_the_same_damage() -> None:
    text = (TINY_BASE / "config.json").read_text()
    assert [mutate(text, random.Random(5)) for _ in range(2)] == [mutate(text, random.Random(5))] * 2
