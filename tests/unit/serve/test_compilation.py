"""A server that compiles: what it refuses, what it builds before it is ready, and that nothing is compiled after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fake_policies import make_policy, save_policy
from torch._inductor.exc import InductorError

from pi05.data.collate import static_shapes
from pi05.data.resize import LEROBOT_RESIZE
from pi05.errors import ConfigError, ServeError
from pi05.model.inference import compile_sampling
from pi05.policy import Policy
from pi05.policy_choice import ChosenPolicy
from pi05.serve import compilation, run
from pi05.serve.batching import Answered, Question
from pi05.serve.config import Chunking, ServeConfig
from pi05.serve.engine import Engine, example_observation
from pi05.serve.selftest import selftest
from pi05.serve.underway import Underway
from pi05.types import TASK

ROUNDING = 1e-4
"""Absolute, in robot units; what the issue allows compiled code."""
STEPS = 2
WORDS = ("go", "put the red block into the bin on the left and", "lift")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture
def graphs() -> Callable[[], int]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return lambda: int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def engines(
    tokenizer: Path, chunking: Chunking, max_batch: int = 4, backend: str = "eager", **changes: Any
) -> tuple[Engine, Engine]:
    """Return one that is not compiled and one that is, of the same weights; `eager` runs what Dynamo has recorded."""
    made = []
    for compiled in (False, True):
        one = make_policy(tokenizer, **changes)
        policy = Policy(one.model, one.processor, max_delay=5)
        if compiled:
            compile_sampling(policy.model, backend=backend)
            policy.shapes = static_shapes(policy.processor, max_batch)
        made.append(Engine(policy, num_steps=STEPS, chunking=chunking))
    return made[0], made[1]


def built(engine: Engine) -> Engine:
    assert engine.policy.shapes is not None
    for size in engine.policy.shapes.batch_sizes:
        engine.build(size)
    return engine


def asked(engine: Engine, count: int, underway: Underway | None = None) -> list[Question]:
    """Return questions with prompts of different lengths; the last robot stands."""
    questions = []
    for seed in range(count):
        observation = {**example_observation(engine.policy, seed), TASK: WORDS[seed % len(WORDS)]}
        questions.append(Question(observation=observation, seed=seed, underway=underway))
    return [*questions[:-1], replace(questions[-1], underway=None)] if count > 1 else questions


def require_alike(answers: Sequence[Any], wanted: Sequence[Any]) -> None:
    assert len(answers) == len(wanted)
    for answer, want in zip(answers, wanted, strict=True):
        assert isinstance(answer, Answered)
        assert isinstance(want, Answered)
        np.testing.assert_allclose(answer.actions, want.actions, atol=ROUNDING)


def in_another_thread(work: Callable[[], list[Any]]) -> list[Any]:
    """As a server answers: not in the thread that has compiled."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(work()))
    thread.start()
    thread.join()
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("chunking", ["synchronous", "guided", "trained"])
def test_nothing_is_compiled_after_the_warm_up(tokenizer: Path, graphs: Callable[[], int], chunking: Chunking) -> None:
    plain, compiled = engines(tokenizer, chunking)
    built(compiled)
    sizes = 3  # 1, 2 and 4
    assert graphs() == sizes * (4 if chunking == "trained" else 3), "pictures, prefix, flow; the committed flow"
    left = Underway(actions=np.full((6, 3), 0.1, np.float32), delay=3)
    for underway in (None, left) if chunking != "synchronous" else (None,):
        for count in (1, 2, 3, 4):
            questions = asked(compiled, count, underway)
            before = graphs()
            answers = in_another_thread(lambda: compiled.answer_all(questions))  # noqa: B023 - it is called here
            assert graphs() == before
            require_alike(answers, plain.answer_all(questions))
            assert [one.batch for one in answers] == [count] * count


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_the_self_test_compares_compiled_answers(tokenizer: Path, graphs: Callable[[], int]) -> None:
    _, compiled = engines(tokenizer, "trained", max_batch=3)
    built(compiled)
    before = graphs()
    config = ServeConfig(chunking="trained", max_batch=3, compile_model=True)
    assert selftest(config, compiled).batch_difference < ROUNDING
    assert graphs() == before


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_pictures_that_came_resized_or_not_are_one_graph(tokenizer: Path, graphs: Callable[[], int]) -> None:
    plain, compiled = engines(tokenizer, "synchronous", max_batch=1, resize=LEROBOT_RESIZE)
    built(compiled)
    before = graphs()
    camera = compiled.policy.processor.slots.keys[0]
    for side in (compiled.policy.processor.image_size, 40):
        (question,) = asked(compiled, 1)
        picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        question = replace(question, observation={**question.observation, camera: picture})
        require_alike(compiled.answer_all([question]), plain.answer_all([question]))
    assert graphs() == before


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_a_folder_is_served_compiled(tokenizer: Path, tmp_path: Path, graphs: Callable[[], int]) -> None:
    """By the real compiler, through `Engine.load` and the self-test, which compares bit for bit."""
    folder = save_policy(tmp_path / "checkpoint", make_policy(tokenizer))
    policy = ChosenPolicy(path=str(folder), device="cpu", n_action_steps=4, num_inference_steps=1)
    config = ServeConfig(policy=policy, max_batch=1, compile_model=True)
    plain, compiled = Engine.load(replace(config, compile_model=False)), built(Engine.load(config))
    assert graphs() == 3
    assert compiled.contract.n_action_steps == 4
    assert selftest(config, compiled).observations == 2
    questions = asked(compiled, 1)
    require_alike(compiled.answer_all(questions), plain.answer_all(questions))
    assert graphs() == 3


def test_rows_that_fill_a_batch_up_are_dropped(tokenizer: Path) -> None:
    """Without a compiler: three of a batch of four, each its own answer, steered or with committed actions or not."""
    left = Underway(actions=np.full((6, 3), 0.1, np.float32), delay=3)
    chunkings: tuple[Chunking, ...] = ("synchronous", "guided", "trained")
    for chunking in chunkings:
        one = make_policy(tokenizer)
        plain, padded = (
            Engine(Policy(one.model, one.processor, max_delay=5), num_steps=STEPS, chunking=chunking) for _ in range(2)
        )
        padded.policy.shapes = static_shapes(one.processor, 4)
        questions = asked(plain, 3, left if chunking != "synchronous" else None)
        alone = [plain.answer_all([question])[0] for question in questions]
        require_alike(padded.answer_all(questions), alone)
        assert len({answer.actions.tobytes() for answer in alone if isinstance(answer, Answered)}) == 3


def test_every_size_is_told_with_its_seconds(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(make_policy(tokenizer), num_steps=1, chunking="guided")
    engine.policy.shapes = static_shapes(engine.policy.processor, 3)
    sizes: list[int] = []

    def build(size: int) -> float:
        sizes.append(size)
        return 7.4

    monkeypatch.setattr(engine, "build", build)
    run._compile(engine)
    told = capsys.readouterr()
    assert sizes == [1, 2, 3]
    assert [line for line in told.out.splitlines() if line.startswith("built")] == [
        f"built   a batch of {size}: 7 s" for size in sizes
    ]
    assert "steered step by step" in told.err
    assert "keeps the matrices once more" in told.err


def test_what_cannot_be_compiled_is_refused_before_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--compile_model[\s\S]*int8"):
        ServeConfig(precision="int8", compile_model=True)
    monkeypatch.setattr(compilation, "why_no_compiler", lambda device: f"nothing for {device}")
    nowhere = ChosenPolicy(path="/nowhere", device="cpu")
    with pytest.raises(ConfigError, match=r"nothing for cpu[\s\S]*--compile_model=false"):
        Engine.load(ServeConfig(policy=nowhere, compile_model=True))


def test_a_compiler_that_fails_is_named_with_the_flag(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(make_policy(tokenizer), num_steps=1)

    def fails(*_: object, **__: object) -> None:
        raise InductorError(RuntimeError("no g++\nat all"), None)

    monkeypatch.setattr(engine.policy.model, "sample_actions", fails)
    with pytest.raises(ServeError, match=r"RuntimeError: no g\+\+\n[\s\S]*--compile_model=false"):
        engine.build(1)
    monkeypatch.setattr(engine.policy.model, "sample_actions", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.build(1)
