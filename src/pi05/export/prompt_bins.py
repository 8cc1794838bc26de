"""Do the training data's states fall into the same bins of the prompt in the other program? Counted, frame by frame.

LeRobot keeps statistics and computes in float32, openpi and runs in its formula in float64. Where a state's range is
narrow and far from zero, that tips states near a bin's edge over, and the policy reads another number there. The probe
(`probe.py`) keeps away from edges, so that it shows whether two folders are the same policy; here the frames that can
differ are looked for. Leaves out what the bins are (`data/prompt.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.numpy
from jaxtyping import Float, Int64
from safetensors import SafetensorError

from pi05.checkpoint.foreign_statistics import lerobot_statistics, openpi_statistics, rounding
from pi05.data.lerobot.reader import Dataset
from pi05.data.processor import Processor
from pi05.data.prompt import STATE_BINS, discretize_state
from pi05.data.statistics import DimStats
from pi05.data.transforms import NormalizationMode
from pi05.errors import CheckpointError, UserError
from pi05.export.probe import SAMPLES, Probe, ask, compare, fitting_tasks
from pi05.export.source import Source
from pi05.files import write_atomic
from pi05.policy import Policy

EDGES = "pi05_edges.safetensors"
KEPT = 256
"""States that are stored: those that differ, then those nearest to an edge."""
WORTH_TELLING = 1e-3
"""Expected share of prompts that differ, above which one hears that nobody could count."""


@dataclass(frozen=True, kw_only=True)
class BinCount:
    """How often the other program reads another state, over all frames of the training data."""

    frames: int
    differ: int
    dimensions: tuple[int, ...]
    """State dimensions in which a frame falls into another bin."""
    states: Float[np.ndarray, "kept S"]
    """The frames that differ, then those nearest to an edge."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for pi05.json."""
        return {
            "frames": self.frames,
            "differ": self.differ,
            "dimensions": list(self.dimensions),
            "nearest": len(self.states),
            "nearest_differ": min(self.differ, len(self.states)),
        }


def read_elsewhere(processor: Processor, to: str) -> Processor:
    """Return the processor, with the state normalised as the other program does it with what is exported."""
    mode = processor.normalization["STATE"]
    if to == "lerobot":
        values = lerobot_statistics(processor.state_stats, mode, processor.formula)
        single = {name: numbers.astype(np.float32).astype(np.float64) for name, numbers in values.items()}
        stats = DimStats(count=0, **cast(dict[str, Any], single))
        return replace(processor, state_stats=stats, formula="lerobot")
    values = openpi_statistics(processor.state_stats, mode, processor.formula)
    modes: dict[str, NormalizationMode] = {**processor.normalization, "STATE": "QUANTILES"}
    stats = DimStats(count=0, **cast(dict[str, Any], values))
    return replace(processor, state_stats=stats, normalization=modes, formula="openpi")


def state_bins(processor: Processor, states: Float[np.ndarray, "N S"]) -> Int64[np.ndarray, "N S"]:
    """Return the bins of raw states."""
    return discretize_state(processor.state_normalizer.normalize(states))


def count_bins(ours: Processor, theirs: Processor, states: Float[np.ndarray, "N S"]) -> BinCount:
    """Compare the bins of all frames; keep the frames that differ, and those nearest to an edge."""
    apart = state_bins(ours, states) != state_bins(theirs, states)
    differ = apart.any(axis=1)
    scaled = (np.asarray(ours.state_normalizer.normalize(states), np.float64) + 1) * STATE_BINS / 2
    edge = np.clip(np.round(scaled), 0, STATE_BINS - 1)
    order = np.lexsort((np.abs(scaled - edge).min(axis=1), ~differ))
    return BinCount(
        frames=len(states),
        differ=int(differ.sum()),
        dimensions=tuple(np.flatnonzero(apart.any(axis=0)).tolist()),
        states=states[order[:KEPT]],
    )


def measure_bins(source: Source, to: str, probe: Probe) -> tuple[BinCount | None, list[str]]:
    """Count over the source's training data; return the count, and what the user should read of it.

    Without the data the count is None, and where the statistics let expect differing prompts, the notes say so.
    """
    policy, ours = source.policy, source.policy.processor
    if ours.prompt_format == "none" or to == "pi05":
        return None, []
    theirs = read_elsewhere(ours, to)
    states, reason = _training_states(source)
    if states is None:
        mode = ours.normalization["STATE"]
        moved = rounding(lerobot_statistics(ours.state_stats, mode, ours.formula), mode)
        expected = float(np.minimum(moved * STATE_BINS / 2, 1).sum()) if to == "lerobot" else 0.0
        told = f"{reason}, so nobody has counted in how many frames rounding changes the prompt; by the statistics"
        return None, [f"{told} about {100 * min(expected, 1):.2g} % of them"] if expected > WORTH_TELLING else []
    count = count_bins(ours, theirs, states)
    if not count.differ:
        return count, []
    few = count.states[: min(SAMPLES, count.differ)]
    question = replace(
        probe,
        pictures=probe.pictures[: len(few)],
        states=few,
        tasks=fitting_tasks(ours, few),
        noise=probe.noise[: len(few)],
    )
    moved_by = compare(ask(Policy(policy.model, theirs), question), ask(policy, question), ours).normalized
    return count, [
        f"in {count.differ} of {count.frames} frames of the training data ({count.differ / count.frames:.1%}) a state "
        "is so near to a bin's edge that the other program's arithmetic writes another number into the prompt (state "
        f"dimensions {list(count.dimensions)}); on {len(few)} of them normalised actions move by up to {moved_by:.2g}"
    ]


def _training_states(source: Source) -> tuple[np.ndarray | None, str]:
    """Return the states of the run's data set; None with the reason where they cannot be read."""
    root, processor = source.dataset_root, source.policy.processor
    if root is None:
        return None, "the folder does not tell where the training data are"
    state, action = (
        [column.name for column in columns] or None for columns in (processor.state_columns, processor.action_columns)
    )
    try:
        states = Dataset(root, allow=("timestamps", "index"), state=state, action=action).states()
    except UserError:
        return None, "the training data cannot be read where they were"
    if states.shape[1] != processor.state_dim or not len(states):
        return None, "the data set's folder holds other states than those of training"
    return states, ""


def write_edges(folder: Path, processor: Processor, count: BinCount) -> None:
    """Write the kept states, and the bins that the source gives them."""
    tensors = {"states": np.ascontiguousarray(count.states), "bins": state_bins(processor, count.states)}
    write_atomic(folder / EDGES, safetensors.numpy.save(tensors))


def check_edges(folder: Path, processor: Processor, facts: dict[str, Any]) -> str | None:
    """Return one line on the stored states in an exported folder; None for a folder without.

    Raises CheckpointError when another number of them differs than was recorded, or the file is damaged.
    """
    recorded = facts.get("prompts")
    if not isinstance(recorded, dict):
        return None
    try:
        tensors = safetensors.numpy.load((folder / EDGES).read_bytes())
        apart = int((state_bins(processor, tensors["states"]) != tensors["bins"]).any(axis=1).sum())
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            "the folder's stored states cannot be read",
            wanted=f"{folder / EDGES}, as pi05 export wrote it",
            found=f"{type(error).__name__}: {error}",
            remedy="copy the folder again, or export it again",
        ) from error
    if apart != recorded.get("nearest_differ"):
        raise CheckpointError(
            f"{folder} writes other states into the prompt than when it was exported",
            wanted=f"{recorded.get('nearest_differ')} of {len(tensors['states'])} stored frames in another bin",
            found=str(apart),
            remedy="export it again",
        )
    return (
        f"prompts of data    {recorded.get('differ')} of {recorded.get('frames')} frames fall into another state bin "
        f"than at the source; {apart} of the {len(tensors['states'])} nearest to an edge, as recorded"
    )
