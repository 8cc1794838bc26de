"""All watchers of a run in one: fed before and after each step, read when records are due.

Nothing here changes a number of the training, and nothing waits for a GPU but where the loop does so anyway: at a
record, at a measurement, at a checkpoint, and once after the first step of a new run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pi05.finding import Finding
from pi05.train.config import ALLOW_BASE_LOSS, TrainConfig
from pi05.train.data import TrainingData
from pi05.train.faults import BatchOrigin
from pi05.train.resume import OpenRun, build_schedule
from pi05.train.step import StepResult, TrainState, loss_settings
from pi05.train.watchers.ablations import judge_effects
from pi05.train.watchers.action_error import ActionError
from pi05.train.watchers.batches import BatchMeasures, BatchWatch
from pi05.train.watchers.events import Events, Record
from pi05.train.watchers.first_loss import loss_of_zero, require_trained_base
from pi05.train.watchers.frozen import FrozenWatch
from pi05.train.watchers.trends import Trend, judge_average, judge_rate
from pi05.train.watchers.weights import AdapterWatch, WeightMeasures, WeightWatch, judge_adapter, judge_weights
from pi05.types import Batch

FIRST_STEPS = 10
"""Steps in which moments and adapters that start at zero make updates unlike the later ones."""


class Watch:
    """The watchers of one run."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        state: TrainState,
        run: OpenRun,
        log: Callable[[Record], None],
    ) -> None:
        self._config, self._data, self._state, self._log = config, data, state, log
        self._planned = build_schedule(config, run.saved)
        self._base = None if run.base is None or run.continues else str(run.base.given)
        self._settings = loss_settings(config, data.processor.robot_action_dim)
        self._names = list(data.dataset.action_names)
        ranks = state.parallel.ranks
        self._events = Events(log)
        self._batches = BatchWatch(data, ranks.device, ranks)
        self._weights = WeightWatch(state.optimizer.parameters)
        self._adapter = AdapterWatch(state.model)
        self._frozen = FrozenWatch(state.model, ranks)
        self._trend = Trend()
        self._of_zero: Any = None
        self._rates: list[tuple[int, float]] = []

    def begin(self, batches: Sequence[Batch]) -> None:
        """Look at what a step starts from. Waits for no device."""
        step = self._state.step
        if step == 0 and self._base is not None:
            self._of_zero = loss_of_zero(self._state, batches, self._settings)
        if (step + 1) % self._config.log_freq == 0 or step + 1 == self._config.steps:
            self._weights.begin()

    def end(self, result: StepResult, batches: Sequence[Batch], origin: BatchOrigin) -> None:
        """Take in a step. Raises TrainingError after the first one of a base that knows less than nothing."""
        self._weights.end()
        self._batches.add(result, batches, origin)
        self._rates.append((result.step, result.learning_rate))
        if self._of_zero is not None and self._base is not None:
            (of_zero, entries), self._of_zero = self._of_zero, None
            loss, of_zero, entries = float(result.loss), float(of_zero), float(entries)
            allowed = ALLOW_BASE_LOSS in self._config.allow
            ratio = require_trained_base(loss, of_zero, entries, self._base, allowed)
            self._log({"type": "watch", "step": result.step, "name": "base.loss", "first_loss_over_zero": ratio})

    def read(self) -> None:
        """Send the measures since the last record, and what there is to say; all processes call it together."""
        measures, findings = self._batches.read()
        weights, ratio = self._weights.read(), self._adapter.read()
        self._trend.add_losses(measures.losses)
        step = self._state.step
        warm = step > max(FIRST_STEPS, self._config.warmup_steps)
        if weights is not None and warm:
            findings += judge_weights(weights, self._weights.by_chance)
        if ratio is not None:
            findings += judge_adapter(ratio, step, self._enough_for_adapters())
        for number, rate in self._rates:
            findings += judge_rate(number, rate, self._planned.rate(number - 1))
        planned = self._planned.rate(max(step - 1, 0))
        self._rates = []
        self._log(measures_record(step, self._names, self._data.dataset.state_names, measures, weights, ratio, planned))
        self._events.look(("range.", "loss.", "weights.", "adapter.", "learning-rate."), findings, step)

    def measured(self, error: ActionError) -> None:
        """Take in a measurement on held-out frames."""
        step, config = self._state.step, self._config
        self._trend.measured(step, error.score)
        findings: list[Finding] = [*self._trend.judge()]
        if step > config.warmup_steps:
            findings += judge_effects(error.effects, len({*self._data.dataset.tasks}))
        if self._state.ema is not None:
            findings += judge_average(config.ema.decay, step, config.steps)
        self._events.look(("held-out.", "inputs.", "average."), findings, step)

    def before_saving(self) -> None:
        """Raise TrainingError where a frozen weight is not what it was."""
        self._frozen.require_unmoved(self._state.step)

    def _enough_for_adapters(self) -> int:
        """Return from which step on adapters should add something: a tenth of the run, past warm-up."""
        return max(FIRST_STEPS, 2 * self._config.warmup_steps, self._config.steps // 10)


def measures_record(
    step: int,
    action_names: Sequence[str],
    state_names: Sequence[str],
    measures: BatchMeasures,
    weights: WeightMeasures | None,
    ratio: float | None,
    planned: float,
) -> Mapping[str, Any]:
    """Return the record of what was measured, without a judgement."""
    record: dict[str, Any] = {
        "type": "watch",
        "name": "measures",
        "step": step,
        "actions_outside": dict(zip(action_names, map(float, measures.action_outside), strict=True)),
        "loss_share": dict(zip(action_names, map(float, measures.loss_share), strict=True)),
        "planned_rate": planned,
    }
    if measures.state_outside is not None:
        record["state_outside"] = dict(zip(state_names, map(float, measures.state_outside), strict=True))
    if weights is not None:
        record |= {"weights_changed": weights.changed, "update_over_weight": weights.update}
    if ratio is not None:
        record["adapter_over_base"] = ratio
    return record
