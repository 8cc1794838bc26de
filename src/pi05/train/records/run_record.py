"""What the files of a run tell: its method, its curves, how it stands. Leaves out reading them (`read.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from pi05.train.method import Method, name_method, name_part
from pi05.train.records.durations import ago

Record = dict[str, Any]
LARGEST_NUMBER = 1e30
METHOD_TITLES: dict[Method, str] = {
    "full": "everything trained",
    "frozen-vision": "all but the vision tower",
    "expert": "action expert only",
    "lora": "LoRA",
    "qlora": "QLoRA",
}


@dataclass(frozen=True, kw_only=True)
class SeenSample:
    """A sample that the network was given before the first step: pictures by slot, as augmented and before, prompt."""

    title: str
    prompt: str
    pictures: Sequence[tuple[str, Path]]
    originals: Sequence[tuple[str, Path]]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of a run folder, as plain data."""

    folder: Path
    config: Record
    receipt: Record
    records: Sequence[Record]
    samples: Sequence[SeenSample]
    parameters: Mapping[str, tuple[int, int]]
    """Trained and untouched parameters of each part of the network; empty before the first checkpoint."""
    checkpoints: Sequence[str]
    best_checkpoint: str | None
    evaluations: Sequence[Record]
    open_loop: Sequence[Record]
    """Evaluations on recorded episodes."""
    missing: Sequence[str]
    idle_s: float | None
    """Seconds since the last metric was written; None without metrics."""

    @property
    def method(self) -> str:
        """What is trained, in a few words; empty where the configuration does not tell."""
        policy, peft = self.config.get("policy"), self.config.get("peft") or {}
        if not isinstance(policy, dict):
            return ""
        part = name_part(
            train_expert_only=bool(policy.get("train_expert_only")),
            freeze_vision_encoder=bool(policy.get("freeze_vision_encoder")),
        )
        adapters, quantize = bool(policy.get("use_peft")), str(peft.get("quantize", "none"))
        title = METHOD_TITLES[name_method(part, use_peft=adapters, quantize=quantize)]
        return f"{title}, rank {peft.get('r')}" if adapters else title

    def of(self, kind: str) -> list[Record]:
        """Return the records of one type."""
        return [record for record in self.records if record.get("type") == kind]

    def points(self, kind: str, name: str) -> list[tuple[float, float]]:
        """Return (step, value) of one metric, where it is a number."""
        pairs = [(record.get("step"), record.get(name)) for record in self.of(kind)]
        return [(float(x), float(y)) for x, y in pairs if is_number(x) and is_number(y)]

    def dimension_points(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """Return for each action dimension the (step, value) of its held-out error and of the mean action's."""
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for record in self.of("eval"):
            for name, values in (record.get("dimensions") or {}).items():
                lines = found.setdefault(name, {"error": [], "baseline": []})
                for line, points in lines.items():
                    if is_number(record.get("step")) and is_number(values.get(line)):
                        points.append((float(record["step"]), float(values[line])))
        return found

    def baseline_points(self) -> dict[str, list[tuple[float, float]]]:
        """Return for each baseline the (step, value) of its held-out error; version 0.1 had the mean action only."""
        found: dict[str, list[tuple[float, float]]] = {}
        for record in self.of("eval"):
            for name, value in baselines_of(record).items():
                if is_number(record.get("step")):
                    found.setdefault(name, []).append((float(record["step"]), value))
        return found

    @property
    def findings(self) -> list[Record]:
        """What the watchers of the run have told, in order."""
        return [record for record in self.of("watch") if record.get("words") or record.get("text")]

    @property
    def last_step(self) -> int:
        """The last step that was recorded, 0 before the first."""
        return max((int(r["step"]) for r in self.records if is_number(r.get("step"))), default=0)

    @property
    def total_steps(self) -> int | None:
        """The steps that the run was asked for."""
        steps = self.config.get("steps")
        return int(steps) if is_number(steps) else None

    @property
    def status(self) -> str:
        """How the run stands, in a sentence."""
        of_total = f" of {self.total_steps:,}" if self.total_steps is not None else ""
        progress = f"step {self.last_step:,}{of_total}"
        last = self.records[-1] if self.records else {}
        if last.get("type") == "end":
            return f"{last.get('status', 'ended')} at {progress}"
        if self.total_steps is not None and self.last_step >= self.total_steps:
            return f"finished at {progress}"
        if self.idle_s is None:
            return "nothing is recorded yet"
        return f"{progress}; no end is recorded, so it is running or was killed. Last record {ago(self.idle_s)}"


def baselines_of(record: Record) -> dict[str, float]:
    """Return the baselines of a held-out measurement by name, those that are numbers."""
    stored = record.get("baselines") or {"mean action": record.get("baseline_error")}
    return {name: float(value) for name, value in stored.items() if is_number(value)}


def is_number(value: object) -> TypeGuard[float]:
    """Tell numbers that a chart can show from everything else that JSON may hold; True is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER
