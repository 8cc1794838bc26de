"""Whether layers are compiled where nobody says: by prediction on CUDA, told with its numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pi05 import cli
from pi05.commands.train import read_training_settings
from pi05.model.config import tiny
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.compilation import START_SECONDS, choose_compilation
from pi05.train.plan.compile_here import compiles_here
from pi05.train.plan.gpus import GPUS
from pi05.train.plan.roofline import count_operations
from pi05.train.plan.step_on_shapes import Shapes

SHAPES, GPU = Shapes(batch=8, cameras=2, prompt_tokens=16), GPUS["rtx4090"]


def read(*flags: str) -> TrainConfig:
    return read_training_settings([*flags, "--policy.path=base"])[0].config


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_it_is_chosen_where_what_it_saves_is_more_than_it_takes(method: str) -> None:
    config = read(f"--method={method}")
    operations = count_operations(config, tiny(), SHAPES)
    saved = operations.seconds(GPU) - operations.seconds(GPU, compiled=True)
    enough = int(START_SECONDS / saved)
    for steps, chosen in ((enough - 1, False), (enough + 1, True)):
        choice = choose_compilation(config, tiny(), SHAPES, GPU, steps)
        assert choice is not None
        assert choice.chosen is chosen
        assert choice.told.startswith(f"--policy.compile_model is {str(chosen).lower()}: {method} is predicted")
        assert "not measured" in choice.told


def test_methods_are_chosen_for_apart() -> None:
    """Adapters bring sums and casts of their own, so that a run may be long enough for LoRA alone."""
    saved = {}
    for method in ("full", "lora"):
        operations = count_operations(read(f"--method={method}"), tiny(), SHAPES)
        saved[method] = operations.seconds(GPU) - operations.seconds(GPU, compiled=True)
    less, more = sorted(saved, key=lambda method: saved[method])
    assert saved[less] < 0.99 * saved[more]
    steps = round(START_SECONDS / (saved[less] * saved[more]) ** 0.5)
    found = {method: choose_compilation(read(f"--method={method}"), tiny(), SHAPES, GPU, steps) for method in saved}
    assert {method: choice is not None and choice.chosen for method, choice in found.items()} == {
        more: True,
        less: False,
    }


def test_what_is_said_counts_and_what_cannot_be_is_not_chosen() -> None:
    for word in ("true", "false"):
        assert choose_compilation(read(f"--policy.compile_model={word}"), tiny(), SHAPES, GPU, 10**9) is None
    reasons = {
        "--deterministic": choose_compilation(read("--deterministic"), tiny(), SHAPES, GPU, 10**9),
        "a C compiler is missing, and": choose_compilation(
            read(), tiny(), SHAPES, GPU, 10**9, "a C compiler is missing"
        ),
        "nothing is known of": choose_compilation(read(), tiny(), SHAPES, replace(GPU, bf16_tflops=0.0), 10**9),
    }
    for words, choice in reasons.items():
        assert choice is not None
        assert not choice.chosen
        assert words in choice.told


def test_a_cpu_compiles_when_asked_alone() -> None:
    unread, told = TrainingData.__new__(TrainingData), list[str]()
    for word, compiled in ((None, False), ("false", False), ("true", True)):
        flags = [] if word is None else [f"--policy.compile_model={word}"]
        assert compiles_here(read(*flags), tiny(), unread, Ranks(), 0, told.append) is compiled
    assert not told


def test_a_plan_tells_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--preset=tiny", "--steps=1000", "--json"]
    assert cli.main([*words, "--gpu=h100"]) == 0
    assert any(
        "--policy.compile_model is false: full is pred" in line
        for line in json.loads(capsys.readouterr().out)["assumed"]
    )
    assert cli.main([*words, "--gpu=h100", "--policy.compile_model"]) == 0
    assert not any("compile_model is" in line for line in json.loads(capsys.readouterr().out)["assumed"])
    assert cli.main(words) == 0
    plans = json.loads(capsys.readouterr().out)
    assert any("--policy.compile_model is false on rtx3090" in line for line in plans[0]["assumed"])
