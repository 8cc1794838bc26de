"""The pictures of an open-loop evaluation: errors as bars, errors over chunk and episode, each joint over time."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pi05.data.measures.ablations import NO_EFFECT
from pi05.eval.open_loop.errors import PARTS_OF_TIME, stitched
from pi05.eval.open_loop.result import Measured, OpenLoopResult
from pi05.pages.charts import Point, Series, line_chart, number
from pi05.pages.wide_bars import Bar, value_bars

UNIT = "standard deviations"
MOST_TASKS = 30
"""Tasks with a bar of their own; of more, those with the largest errors."""


def error_bars(result: OpenLoopResult) -> Markup:
    """Return one bar for each policy and each way to act that needs no learning."""
    bars = [Bar(_label(p), p.errors.whole.score, colour) for colour, p in _coloured(result)]
    ranked = sorted(result.baselines.items(), key=lambda item: item[1].whole.score)
    bars += [Bar(f"without learning: {name}", errors.whole.score, 0) for name, errors in ranked]
    return value_bars(f"Error of the actions, {UNIT} (shorter is better)", bars)


def joint_charts(result: OpenLoopResult, episode: int, recorded: Sequence[Sequence[float]]) -> list[Markup]:
    """Return one chart for each action dimension of an episode; `recorded` holds its actions, frame by frame."""
    fps = float(result.data["fps"])
    charts = []
    for dimension, name in enumerate(result.action_names):
        series = [Series("recorded", [(t / fps, float(row[dimension])) for t, row in enumerate(recorded)], 0)]
        for colour, policy in _coloured(result):
            if len(result.policies) == 1:
                series = [*_chunks(result, policy, episode, dimension, fps, colour), *series]
            steps, actions = stitched(policy.chunks[0], result.looks, episode)
            own = [(int(t) / fps, float(row[dimension])) for t, row in zip(steps, actions, strict=True)]
            label = "predicted" if len(result.policies) == 1 else policy.name
            series.append(Series(label, own, colour))
        held = {float(row[dimension]) for row in recorded}
        # The axis fits what is drawn, so that noise around a constant looks like movement.
        title = f"{name} (recorded: {number(held.pop())} throughout)" if len(held) == 1 else name
        charts.append(line_chart(title, series, x_label="seconds", y_label="robot units", from_zero=False))
    return charts


def _chunks(
    result: OpenLoopResult, policy: Measured, episode: int, dimension: int, fps: float, colour: int
) -> list[Series]:
    """Return the whole chunks, as far as the episode goes, to be drawn lightly."""
    looks, found = result.looks, []
    for place in looks.of(episode):
        inside = looks.valid[place]
        values = policy.chunks[0, place][inside, dimension]
        first = int(looks.steps[place])
        points: list[Point] = [((first + k) / fps, float(value)) for k, value in enumerate(values)]
        found.append(Series("", points, colour, "faint"))
    return found


def by_step_chart(result: OpenLoopResult) -> Markup:
    """Return the error at each step of the chunk."""
    lines = [(p.name, p.errors.whole.by_step.tolist(), colour, "line") for colour, p in _coloured(result)]
    least = result.best_baseline
    lines.append((least, result.baselines[least].whole.by_step.tolist(), 6, "dashed"))
    series = [
        Series(name, [(k + 1.0, float(value)) for k, value in enumerate(values)], colour, style)  # type: ignore[arg-type]
        for name, values, colour, style in lines
    ]
    stride, horizon = result.looks.stride, result.looks.valid.shape[1]
    mark = (float(stride), "then it looks again") if stride < horizon else None
    return line_chart("How far ahead: error by step of the chunk", series, x_label="step", y_label=UNIT, mark=mark)


def by_time_chart(result: OpenLoopResult) -> Markup:
    """Return the error of the carried-out actions from the beginning to the end of the episodes."""
    middle = [100 * (part + 0.5) / PARTS_OF_TIME for part in range(PARTS_OF_TIME)]
    series = [
        Series(p.name, list(zip(middle, p.errors.by_time, strict=True)), colour) for colour, p in _coloured(result)
    ]
    least = result.best_baseline
    series.append(Series(least, list(zip(middle, result.baselines[least].by_time, strict=True)), 6, "dashed"))
    return line_chart("When: error over the episode", series, x_label="% of the episode", y_label=UNIT)


def by_task_bars(result: OpenLoopResult) -> Markup | None:
    """Return a bar for each task and policy; None where there is one task."""
    first = result.policies[0].errors.by_task
    if len(first) < 2:
        return None
    tasks = sorted(first, key=lambda task: -first[task])[:MOST_TASKS]
    several = len(result.policies) > 1
    bars = [
        Bar(f"{p.name}: {task}" if several else task, p.errors.by_task[task], colour)
        for task in tasks
        for colour, p in _coloured(result)
    ]
    return value_bars(f"By task, {UNIT}", bars)


def sensitivity_bars(policy: Measured, colour: int) -> Markup | None:
    """Return how far the actions move with each change of the inputs; None where that was not measured."""
    if policy.sensitivity is None or not policy.sensitivity.effects:
        return None
    bars = [
        Bar(
            f"{effect.input}: {effect.change}",
            effect.moved,
            colour if effect.read else 5,
            f"error {effect.score:.3f}" if effect.read else "not read",
        )
        for effect in policy.sensitivity.effects
    ]
    who = "How" if policy.name == "policy" else f"{policy.name}: how"
    title = f"{who} far the actions move, {UNIT}; with all inputs the error is {policy.sensitivity.whole:.3f}"
    return value_bars(title, bars, threshold=(NO_EFFECT, f"below {NO_EFFECT:g}: not read"))


def _coloured(result: OpenLoopResult) -> list[tuple[int, Measured]]:
    return list(enumerate(result.policies, start=1))


def _label(policy: Measured) -> str:
    step = policy.provenance.get("step")
    told = "" if step is None else f", step {step:,}"
    return f"the policy{told}" if policy.name == "policy" else f"{policy.name}{told}"
