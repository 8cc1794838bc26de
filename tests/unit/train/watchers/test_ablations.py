"""What a policy reads is told, with networks that read one thing each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pi05.train.data import TrainingData
from pi05.train.parallel.ranks import Ranks
from pi05.train.validate import NUM_STEPS, action_moments, choose_frames
from pi05.train.watchers.ablations import UNRELATED, Ablations, judge_effects
from pi05.types import Batch

CPU = torch.device("cpu")


class Reads(nn.Module):
    """A network whose actions follow from some of its inputs only: cameras by place, "state" or "task"."""

    def __init__(self, data: TrainingData, *inputs: int | str) -> None:
        super().__init__()
        self.inputs, self.processor = inputs, data.processor
        self.batches: list[Batch] = []

    def sample_actions(self, batch: Batch, noise: Tensor, num_steps: int) -> Tensor:
        assert num_steps == NUM_STEPS
        assert not noise.any()
        self.batches.append(batch)
        values = torch.zeros(len(batch.tokens))
        for each in self.inputs:
            if isinstance(each, int):
                values += batch.images[:, each].float().mean(dim=(1, 2, 3)) / 255
            else:
                words = [self.processor.tokenizer.decode(row.tolist()) for row in batch.tokens]
                parts = [text.partition("State:")[0 if each == "task" else 2].rstrip("\x00 ") for text in words]
                values += torch.tensor([float(sum(map(ord, part)) % 97) for part in parts]) / 97
        return values[:, None, None].expand_as(noise)


def ablations(data: TrainingData, size: int = 4, ranks: Ranks | None = None) -> Ablations:
    return Ablations(
        data, choose_frames(data, 10), batch_size=size, scale=action_moments(data)[1], ranks=ranks or Ranks()
    )


@pytest.mark.parametrize("inputs", [(0,), (1,), ("state",), ("task",), (0, "task"), ()])
def test_what_is_read_has_an_effect_and_nothing_else(data: TrainingData, inputs: tuple[int | str, ...]) -> None:
    names = {0: "camera scene", 1: "camera wrist"}
    effects = ablations(data).measure(Reads(data, *inputs), CPU, NUM_STEPS)
    assert effects is not None
    assert {name for name, value in effects.items() if value > 0.02} == {names.get(each, each) for each in inputs}  # type: ignore[call-overload]
    assert all(value == 0 for name, value in effects.items() if value <= 0.02)


def test_the_size_of_an_effect_is_in_standard_deviations(data: TrainingData) -> None:
    watcher = ablations(data, size=100)
    network = Reads(data, 0)
    effects = watcher.measure(network, CPU, NUM_STEPS)
    bright = network.batches[0].images[:, 0].float().mean(dim=(1, 2, 3)).numpy() / 255
    stats = data.processor.action_stats
    expected = np.sqrt(np.square(bright).mean()) * (stats.value("q99") - stats.value("q01")) / 2
    assert effects is not None
    assert effects["camera scene"] == pytest.approx((expected / action_moments(data)[1]).mean(), rel=1e-4)


def test_a_state_that_is_not_in_the_prompt_is_not_looked_for(make_data: Any) -> None:
    data = make_data(prompt_format="none")
    assert ablations(data).inputs == ["camera scene", "camera wrist", "task"]
    assert "state" not in (ablations(data).measure(Reads(data, 0), CPU, NUM_STEPS) or {})


def test_one_task_is_exchanged_for_an_unrelated_text(make_data: Any) -> None:
    data = make_data(tasks=["fold the towel"])
    network = Reads(data, "task")
    effects = ablations(data, size=100).measure(network, CPU, NUM_STEPS)
    assert effects is not None
    assert effects["task"] > 0.02
    texts = [data.processor.tokenizer.decode(row.tolist()) for row in network.batches[-1].tokens]
    assert all(UNRELATED in text and "towel" not in text for text in texts)


class Share(Ranks):
    """One of two processes; what the other found is put in by the test."""

    other: list[Any] = []  # noqa: RUF012

    def gather(self, value: Any) -> list[Any]:
        return [self.other, value] if self.rank else [value, self.other]


def test_processes_share_the_work_and_make_the_same_calls(data: TrainingData) -> None:
    whole = ablations(data).measure(Reads(data, 0, "task"), CPU, NUM_STEPS)
    networks, asked, shares = (
        [Reads(data, 0, "task") for _ in range(2)],
        [0, 0],
        [Share(rank=r, world_size=2) for r in (0, 1)],
    )
    found: list[Any] = []
    for rank in (0, 1, 0):  # the first time rank 0 does not know yet what rank 1 will find

        def stopped(rank: int = rank) -> bool:
            asked[rank] += 1
            return False

        kept: list[Any] = []
        original = shares[rank].gather
        shares[rank].gather = lambda value, kept=kept, original=original: kept.extend(value) or original(value)  # type: ignore[method-assign]
        try:
            found.append(ablations(data, ranks=shares[rank]).measure(networks[rank], CPU, NUM_STEPS, stopped))
        except KeyError:
            found.append(None)
        shares[rank].gather = original  # type: ignore[method-assign]
        shares[1 - rank].other = kept
    assert found[1] == whole
    assert found[2] == whole
    assert asked[0] == 2 * asked[1]
    assert len(networks[0].batches) == 2 * len(networks[1].batches)


def test_a_run_that_is_stopped_does_not_wait(data: TrainingData) -> None:
    network = Reads(data, 0).train()
    assert ablations(data).measure(network, CPU, NUM_STEPS, lambda: len(network.batches) == 2) is None
    assert len(network.batches) == 2
    assert network.training


@pytest.mark.parametrize(
    ("dead", "tasks", "name", "status"),
    [
        ("camera top", 2, "inputs.camera", "warning"),
        ("state", 2, "inputs.state", "warning"),
        ("task", 2, "inputs.task", "warning"),
        ("task", 1, "inputs.task", "note"),
    ],
)
def test_what_has_no_effect_is_told_in_words(dead: str, tasks: int, name: str, status: str) -> None:
    sound = {"camera top": 0.35, "camera wrist": 0.2, "state": 0.6, "task": 0.94}
    assert list(judge_effects(sound, tasks)) == []
    (finding,) = judge_effects({**sound, dead: 0.001}, tasks)
    assert (finding.name, finding.status, dict(finding.numbers)) == (name, status, {dead: 0.001})
    assert "has no effect" in finding.text
    assert "0.001 standard deviations" in finding.text
    assert finding.effect
    assert finding.remedy


def test_of_inputs_that_are_read_nothing_is_said() -> None:
    """The smallest effects of policies that worked."""
    assert list(judge_effects({"camera top": 0.2, "camera wrist": 0.05, "state": 0.1, "task": 0.03}, 2)) == []


def test_a_policy_that_reads_nothing_is_told_once() -> None:
    (finding,) = judge_effects({"camera top": 0.0, "state": 0.001, "task": 0.01}, 2)
    assert finding.name == "inputs.nothing-read"
    assert "camera top, state, task" in finding.text
