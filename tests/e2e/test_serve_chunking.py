"""Real-time chunking over a real socket: an untrained policy, its server, and a robot that goes on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fake_policies import make_policy, save_policy
from serving import listening

from pi05.cli import main
from pi05.errors import UserError
from pi05.policy import Policy
from pi05.serve.batching import Answered, Question
from pi05.serve.client import PolicyClient
from pi05.serve.engine import Engine, example_observation
from pi05.serve.rtc import next_chunks
from pi05.types import STATE

HZ = 0.1
"""A control step lasts ten seconds, so that an answer takes one step on a machine that is busy, too."""
EXECUTED, DELAY, STEPS = 4, 3, 12


@dataclass(eq=False)
class Watched:
    """An engine that gives each question a seed, and remembers what it has answered."""

    engine: Engine
    seen: list[tuple[Question, np.ndarray]]

    def __call__(self, questions: Sequence[Question]) -> list[Answered | UserError]:
        seeded = [replace(one, seed=len(self.seen) + i) for i, one in enumerate(questions)]
        answers = self.engine.answer_all(seeded)
        self.seen += [
            (one, answer.actions) for one, answer in zip(seeded, answers, strict=True) if isinstance(answer, Answered)
        ]
        return answers


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.mark.parametrize("chunking", ["guided", "trained"])
def test_a_robot_goes_on_over_the_seam(tokenizer: Path, chunking: Any) -> None:
    """Relative actions of two dimensions, and a state that moves: what is committed stays where it was in the room."""
    made = make_policy(tokenizer, fps=HZ, relative_mask=(True, True, False))
    policy = Policy(made.model, made.processor, n_action_steps=EXECUTED, max_delay=DELAY + 1)
    engine = Engine(policy, chunking=chunking)
    contract = replace(engine.contract, warm_s=(DELAY - 0.5) / HZ)
    watched = Watched(engine, [])
    executed = []
    with (
        listening(watched, contract=contract) as (address, _),
        PolicyClient(address, mode="aligned", control_rate_hz=HZ, deadline_ms=60_000) as robot,
    ):
        for step in range(STEPS):
            executed.append(robot.next_action(looked(policy, step)))
            until = time.monotonic() + 60
            while robot._coming is not None and not robot._coming.answer.done():
                assert time.monotonic() < until
                time.sleep(0.001)
        assert robot.overdue == 0
    chunks = [actions for _, actions in watched.seen]
    assert len(chunks) == 3
    # asked at steps 0, 4 and 8; each takes over three steps after it was asked for
    expected = [*chunks[0][:7], *chunks[1][3:7], *chunks[2][3:4]]
    np.testing.assert_array_equal(executed, expected)

    for number, origin in ((1, 4), (2, 8)):
        question, chunk = watched.seen[number]
        before = chunks[number - 1][4:]
        assert question.underway is not None
        assert question.underway.delay == DELAY
        np.testing.assert_array_equal(question.underway.actions, before)
        seen, generator = [looked(policy, origin)], torch.Generator().manual_seed(number)
        (want,) = next_chunks(policy, seen, [question.underway], mode=chunking, generator=generator)
        assert chunk.tobytes() == want.tobytes()  # what an evaluation's robot is given
        (naive,) = next_chunks(
            policy, seen, [question.underway], mode="naive", generator=torch.Generator().manual_seed(number)
        )
        apart, apart_naive = (np.abs(one[:DELAY] - before[:DELAY]).max() for one in (chunk, naive))
        if chunking == "trained":
            assert apart < 1e-6
        assert apart < 0.3 * apart_naive


def looked(policy: Policy, step: int) -> dict[str, Any]:
    """Return what the robot sees at a step: the same for everybody who asks for that step."""
    whole = example_observation(policy, seed=step)
    return {**whole, STATE: whole[STATE] + np.float32(0.01 * step)}


def test_a_policy_that_was_not_trained_for_it_is_refused(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_policy(tmp_path / "checkpoint", make_policy(tokenizer))
    words = ["serve", f"--policy.path={folder}", "--policy.device=cpu", "--threads=1", "--port=0", "--selftest"]
    assert main([*words, "--chunking=trained"]) == 2
    told = capsys.readouterr().err
    assert "was not trained to continue" in told
    assert "--rtc_max_delay" in told
    assert main([*words, "--chunking=naive"]) == 2
    assert "synchronous" in capsys.readouterr().err
    assert main([*words, "--chunking=guided", "--policy.num_inference_steps=2"]) == 0
    out = capsys.readouterr().out
    assert "control steps for one observation" in out
    assert "guided chunk what next_chunks answers" in out
