"""All watchers together: what they record and when, and that no step waits for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import DEVICE, fake_cuda
from torch import nn

from pi05.checkpoint.locate import locate
from pi05.errors import TrainingError
from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.train.config import TINY_BASE, EmaConfig, TrainConfig
from pi05.train.data import TrainingData, build_loader
from pi05.train.faults import BatchOrigin
from pi05.train.optim.adamw import AdamSettings, AdamW, Ema
from pi05.train.parallel.ranks import Ranks
from pi05.train.policy_config import PolicyConfig
from pi05.train.resume import OpenRun, build_schedule
from pi05.train.step import StepResult, TrainState, train_step
from pi05.train.watchers.action_error import MEAN_ACTION, ActionError, ChunkError
from pi05.train.watchers.batches import BatchWatch
from pi05.train.watchers.watch import Watch
from pi05.train.watchers.weights import WeightWatch

SOUND = {"camera scene": 0.3, "state": 0.2, "task": 0.5}


class Run:
    """A small run of the real network, and the records that its watchers send."""

    def __init__(self, data: TrainingData, *, base: bool = False, **settings: Any) -> None:
        start = {"policy": PolicyConfig(path=str(TINY_BASE))} if base else {"from_scratch": True, "network": "tiny"}
        values = {**start, "batch_size": 4, "num_workers": 0, "steps": 40, "log_freq": 2, **settings}
        self.config = TrainConfig(**values)
        self.records: list[Any] = []
        model = Pi05(tiny())
        model.initialize(torch.Generator().manual_seed(0))
        parameters = dict(model.named_parameters())
        optimizer = AdamW(parameters, AdamSettings(), build_schedule(self.config, {}))
        average = Ema(parameters, self.config.ema.decay) if self.config.ema.enable else None
        self.state = TrainState(step=0, seed=0, model=model, optimizer=optimizer, ema=average)
        run = OpenRun(root=Path("nowhere"), base=locate(TINY_BASE) if base else None)
        self.watch = Watch(self.config, data, self.state, run, self.records.append)
        self.stream = iter(build_loader(self.config, data))

    def step(self, change: Any = None) -> StepResult:
        batch, info = next(self.stream)
        self.watch.begin([batch])
        result = train_step(self.state, [batch], self.watch._settings)
        result = result if change is None else change(result)
        origin = BatchOrigin(frames=info.frame_indices.tolist(), episodes=info.episodes.tolist())
        self.watch.end(result, [batch], origin)
        return result

    def findings(self) -> list[str]:
        return [record["name"] for record in self.records if "words" in record]


def error(score: float, **effects: float) -> ActionError:
    one = ChunkError(error=np.ones(3), by_step=np.ones(10), score=score)
    return ActionError(
        names=("a", "b", "c"), policy=one, baselines={MEAN_ACTION: one}, scale=np.ones(3), frames=1, episodes=1,
        seconds=0.0, effects={name.replace("_", " "): value for name, value in effects.items()} or SOUND,
    )  # fmt: skip


def test_a_record_of_measures_is_sent_when_one_is_due_and_a_sound_run_is_told_nothing(data: TrainingData) -> None:
    run = Run(data)
    for _ in range(2):
        run.step()
    run.watch.read()
    run.watch.measured(error(0.5))
    run.watch.before_saving()
    (record,) = run.records
    assert (record["type"], record["name"], record["step"]) == ("watch", "measures", 2)
    assert record["planned_rate"] == run.state.optimizer.schedule.rate(1)
    assert 0 < record["weights_changed"] <= 1
    assert set(record["loss_share"]) == set(data.dataset.action_names)


def test_the_learning_rate_is_compared_with_what_the_settings_plan(data: TrainingData) -> None:
    from dataclasses import replace

    run = Run(data)
    run.step()
    run.step(lambda result: replace(result, learning_rate=2 * result.learning_rate))
    run.watch.read()
    assert run.findings() == ["learning-rate.off-plan"]


def test_inputs_are_judged_when_the_rate_has_warmed_up(data: TrainingData) -> None:
    run = Run(data, policy=PolicyConfig(scheduler_warmup_steps=1))
    run.step()
    run.watch.measured(error(0.5, camera_scene=0.0, state=0.3))
    assert run.findings() == []
    run.step()
    run.watch.measured(error(0.5, camera_scene=0.0, state=0.3))
    run.watch.measured(error(0.5, camera_scene=0.0, state=0.3))
    assert run.findings() == ["inputs.camera"], "once"


def test_a_held_out_error_that_rises_and_an_average_that_is_slow_are_told(data: TrainingData) -> None:
    run = Run(data, ema=EmaConfig(enable=True, decay=0.9999))
    for score, loss in zip((0.4, 0.5, 0.6, 0.7), (4.0, 3.0, 2.0, 1.0), strict=True):
        run.step()
        run.watch._trend.add_losses([loss])
        run.watch.measured(error(score))
    assert sorted(run.findings()) == ["average.slow", "held-out.rising"]


def test_the_first_loss_of_a_base_is_recorded_once_and_judged(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights here are random, and not those of the base that the run names."""
    run = Run(data, base=True)
    run.step()
    run.step()
    assert [record["name"] for record in run.records] == ["base.loss"], "too few values to judge"
    assert run.records[0]["first_loss_over_zero"] > 1.4
    monkeypatch.setattr("pi05.train.watchers.first_loss.ENOUGH_VALUES", 10)
    with pytest.raises(TrainingError, match="worse than a network that has learnt nothing"):
        Run(data, base=True).step()
    Run(data, base=True, allow=("base.loss",)).step()


def test_no_step_waits_for_the_watchers(data: TrainingData) -> None:
    """On a GPU: neither the copies of weights nor the sums over batches may be read before a record is due."""
    parameters = {"expert.layers.0.q.weight": nn.Parameter(torch.ones(40, 40))}
    batch, _ = next(iter(build_loader(TrainConfig(from_scratch=True, network="tiny", num_workers=0), data)))
    with fake_cuda() as cuda:
        held = {name: nn.Parameter(cuda.batch(batch).actions[0].detach()) for name in parameters}  # type: ignore[index]
        weights, batches = WeightWatch(held), BatchWatch(data, DEVICE, Ranks())
        losses = torch.ones(32, device=DEVICE)
        moved = cuda.batch(batch)
        result = StepResult(
            step=1,
            samples=32,
            learning_rate=0.1,
            loss=losses.sum(),
            grad_norm=losses.sum(),
            sample_losses=losses,
            dimension_losses=losses,
        )
        with cuda.watch():
            weights.begin()
            weights.end()
            batches.add(result, [moved], BatchOrigin(frames=[1] * 32, episodes=[0] * 32))
        with pytest.raises(Exception) as waits, cuda.watch():
            weights.read()
        assert type(waits.value).__name__ in ("WouldWait", "DataDependentOutputException")
