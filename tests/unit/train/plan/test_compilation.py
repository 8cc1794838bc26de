"""Whether layers are compiled where nobody says: by prediction on CUDA, told with its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes import write_dataset
from rich.console import Console

from pi05 import cli
from pi05.commands.train import read_training_settings
from pi05.model.config import tiny
from pi05.model.packed_keys import Varlen
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData, build_data
from pi05.train.parallel.kind import World
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan import compile_here
from pi05.train.plan.compilation import START_SECONDS, _shown, choose_compilation
from pi05.train.plan.compile_here import compiles_here
from pi05.train.plan.gpus import GIB, GPUS
from pi05.train.plan.roofline import count_operations
from pi05.train.plan.step_on_shapes import Shapes
from pi05.train.resume import OpenRun

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


def test_gpus_that_share_the_parameters_share_the_update() -> None:
    """The step that is told is shorter; what compiling saves is the same."""
    operations = count_operations(read(), tiny(), SHAPES)
    update = operations.parts(GPU)["clipping and update"].seconds
    assert operations.parts(GPU, over=8)["clipping and update"].seconds == pytest.approx(update / 8)
    told = {}
    for kind in ("ddp", "fsdp"):
        choice = choose_compilation(read(f"--parallel={kind}"), tiny(), SHAPES, GPU, 10**7, world=World.planned(8))
        assert choice is not None
        told[kind] = choice.reason
    assert told["ddp"] != told["fsdp"]
    over = {"ddp": 1, "fsdp": 8}
    for kind, reason in told.items():
        assert f"take {_shown(operations.seconds(GPU, compiled=True, over=over[kind]))} a step compiled" in reason
    assert told["ddp"].split("which saves")[1] == told["fsdp"].split("which saves")[1]


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


class Among(Ranks):
    """One process on a CUDA device among several, of which another one answers `others`, question by question."""

    def __init__(self, *others: bool) -> None:
        super().__init__(device=torch.device("cuda"))
        self.others = list(others)

    def any(self, flag: bool) -> bool:
        """Return what the processes agree on; no more is asked than others answer."""
        return self.others.pop(0) or flag


class Machine:
    """A machine with an RTX 4090 that is not there, all that compiling takes, and compiled code that works."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = str(write_dataset(folder / "set").root)
        flags = ["--preset=tiny", f"--dataset.root={root}", "--batch_size=2", f"--output_dir={folder / 'run'}"]
        self.config = replace(read_training_settings(flags)[0].config, steps=10**8)
        self.data = build_data(self.config, tiny(), Console(quiet=True), OpenRun(root=folder / "run"))
        self.told: list[str] = []
        self.tried: tuple[bool, int] | None = None
        """Whether packed keys were tried, and the width of a head."""
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "Python.h").touch()
        (folder / "clang").touch(mode=0o755)
        for name, answer in (
            ("get_device_name", f"NVIDIA {GPU.title}"),
            ("get_device_properties", SimpleNamespace(**MEMORY)),
            ("get_device_capability", GPU.capability),
        ):
            monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        monkeypatch.setattr("sysconfig.get_path", lambda *_: str(folder))
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("CC", raising=False)
        self.tries(None)

    def tries(self, reason: str | None) -> None:
        """Let the trial of compiled code end so."""

        def trial(device: torch.device, *, varlen: Varlen | None, head_dim: int) -> str | None:
            self.tried = (varlen is not None, head_dim)
            return reason

        self.monkeypatch.setattr(compile_here, "why_not_compiling", trial)

    def compiles(self, *others: bool, done: int = 0) -> tuple[bool, str]:
        """Return the answer and the only line that is told."""
        ranks = Among(*others)
        answer = compiles_here(self.config, tiny(), self.data, ranks, done, self.told.append)
        assert not ranks.others, "every process asks the others as often"
        return answer, self.told.pop()


MEMORY = {"total_memory": int(GPU.memory_gib * GIB)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    found = Machine(tmp_path, monkeypatch)
    yield found
    assert not found.told


def test_the_trial_has_the_attention_of_the_run(machine: Machine) -> None:
    for precision, packs in (("float32", False), ("mixed", True)):
        machine.config = replace(machine.config, precision=precision)
        machine.compiles(False, False)
        assert machine.tried == (packs, tiny().head_dim)


def test_on_cuda_the_steps_that_are_left_decide(machine: Machine) -> None:
    compiled, line = machine.compiles(False, False)
    assert compiled
    assert line.startswith("--policy.compile_model is true: full is predicted")
    assert "in 100,000,000 steps" in line
    compiled, line = machine.compiles(True, done=10**8 - 5)
    assert not compiled
    assert "in 5 steps, less than the 60 s" in line


def test_on_cuda_all_processes_compile_or_none(machine: Machine) -> None:
    other = "--policy.compile_model is false: another process of the run goes without"
    assert machine.compiles(True) == (False, other)
    assert machine.compiles(False, True) == (False, other), "the trial of another process has failed"
    machine.tries("RuntimeError: no ptxas")
    failed = "--policy.compile_model is false: a trial of compiled code failed here: RuntimeError: no ptxas"
    assert machine.compiles(False, False) == (False, failed)


def test_on_cuda_nothing_is_compiled_without_what_that_takes(machine: Machine) -> None:
    machine.monkeypatch.setenv("CC", "cc")
    machine.tries("not to be tried")
    assert "a C compiler is missing (CC is 'cc'), and" in machine.compiles(False)[1]
    machine.monkeypatch.delenv("CC")
    (machine.folder / "clang").rename(machine.folder / "cc")
    assert "a C compiler is missing (gcc or clang), and" in machine.compiles(False)[1]
    (machine.folder / "cc").rename(machine.folder / "gcc")
    (machine.folder / "Python.h").unlink()
    assert "Python.h is missing (Debian: python3-dev), and" in machine.compiles(False)[1]


def test_what_compiling_does_to_exactness_is_told() -> None:
    unread, told, gpu = TrainingData.__new__(TrainingData), list[str](), Ranks(device=torch.device("cuda"))
    for flags, lines in (
        (["--deterministic", "--policy.compile_model=true"], 1),
        (["--deterministic", "--policy.compile_model=false"], 0),
        (["--policy.compile_model=true"], 0),
    ):
        told.clear()
        assert compiles_here(read(*flags), tiny(), unread, gpu, 0, told.append) is ("=true" in flags[-1])
        assert len(told) == lines
        assert all(line.startswith("notice: --deterministic with --policy.compile_model=true: ") for line in told)


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
