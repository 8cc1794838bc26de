"""How a LeRobot folder normalises: the modes, the statistics behind them, and that both halves agree on them.

LeRobot passes over what is missing, and values go through unchanged; here it is an error. MIN_MAX and QUANTILE10, which
no π₀.₅ uses, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pi05.checkpoint.lerobot.steps import NORMALIZE, POSTPROCESSOR, PREPROCESSOR, Step, StoredStatistics
from pi05.data.statistics import DimStats
from pi05.data.transforms import LEROBOT_EPS, NORMALIZATION_MODES, NormalizationMode
from pi05.errors import CheckpointError
from pi05.types import ACTION, STATE

NEEDED = {"QUANTILES": ("q01", "q99"), "MEAN_STD": ("mean", "std"), "IDENTITY": ()}
_NAMES = ("mean", "std", "min", "max", "q01", "q99")


def require_statistics(normalizer: Step, folder: Path) -> None:
    """Raise CheckpointError for a folder that nobody has fine-tuned yet."""
    if not normalizer.settings.get("features") or not normalizer.statistics:
        raise CheckpointError(
            "the folder holds weights but no statistics, so that it is no policy yet",
            wanted=f"features and a state file of {NORMALIZE} in {PREPROCESSOR}",
            found=f"none in {folder}; lerobot/pi05_base is published that way",
            remedy="fine-tune it first: pi05 train --policy.path=…",
        )


def read_modes(before: Step, after: Step, config: Mapping[str, Any], notes: list[str]) -> dict[str, NormalizationMode]:
    """Return the modes of STATE and ACTION; LeRobot takes a kind that is not listed as IDENTITY."""
    for step, where in ((before, PREPROCESSOR), (after, POSTPROCESSOR)):
        eps = float(step.settings.get("eps", LEROBOT_EPS))
        if eps != LEROBOT_EPS:
            raise odd(f"eps in {where}", f"{LEROBOT_EPS:g}, LeRobot's value", f"{eps:g}")
    told = {
        kind: str((before.settings.get("norm_map") or {}).get(kind, "IDENTITY"))
        for kind in ("VISUAL", "STATE", "ACTION")
    }
    inverse = str((after.settings.get("norm_map") or {}).get("ACTION", "IDENTITY"))
    if inverse != told["ACTION"]:
        raise odd("normalisation of actions", f"one mode in {PREPROCESSOR} and {POSTPROCESSOR}", f"{told}, {inverse}")
    if told["VISUAL"] != "IDENTITY":
        raise odd("normalisation of pictures", "VISUAL: IDENTITY", told["VISUAL"])
    configured = dict(config.get("normalization_mapping") or told)
    if any(configured.get(kind, "IDENTITY") != mode for kind, mode in told.items()):
        notes.append(f"normalisation: {PREPROCESSOR} says {told} and counts; config.json says {configured}")
    features, chosen = before.settings["features"], before.settings.get("normalize_observation_keys")
    if STATE not in features or (chosen is not None and STATE not in chosen):
        notes.append(f"the state is not normalised: {NORMALIZE} leaves it out")
        told["STATE"] = "IDENTITY"
    for kind in ("STATE", "ACTION"):
        if told[kind] not in NORMALIZATION_MODES:
            raise odd(f"normalisation of {kind}", " or ".join(NORMALIZATION_MODES), told[kind])
    return cast(dict[str, NormalizationMode], {kind: told[kind] for kind in ("STATE", "ACTION")})


def dim_stats(statistics: StoredStatistics, feature: str, mode: str, dimension: int | None) -> DimStats:
    """Return the statistics of one feature; their own length counts where `dimension` is None.

    Raises CheckpointError when the mode lacks one, for a number that is not finite, and for another length.
    """
    found = statistics.get(feature, {})
    count = int(found["count"].ravel()[0]) if "count" in found and found["count"].size else 0
    arrays = {name: found[name].ravel() for name in _NAMES if name in found}
    absent = [name for name in NEEDED[mode] if name not in arrays]
    told = dimension is not None
    if dimension is None:
        lengths = [len(array) for array in arrays.values()]
        dimension = max(lengths, key=lengths.count, default=0)
    wanted = f"{', '.join(NEEDED[mode]) or 'some'}, {dimension} finite numbers each"
    if absent or not arrays:
        raise CheckpointError(
            f"the statistics of {feature} do not serve {mode}",
            wanted=wanted,
            found=f"no {', '.join(absent)}; {', '.join(arrays) or 'none'} are there",
            remedy="LeRobot before 0.4 computed no quantiles: recompute the data set's statistics and train again",
        )
    wrong = [name for name, array in arrays.items() if array.shape != (dimension,) or not np.isfinite(array).all()]
    if wrong or not dimension:
        finite = all(np.isfinite(arrays[name]).all() for name in wrong)
        raise CheckpointError(
            f"the statistics of {feature} do not serve {mode}",
            wanted=wanted,
            found=", ".join(f"{name} {arrays[name].tolist()}" for name in wrong) or "no number",
            remedy="config.json and the statistics are not of one checkpoint: copy or download it again, with all files"
            if finite and told
            else "copy or download the checkpoint again; if it is as written, its data were not finite",
        )
    return DimStats(count=count, **cast(dict[str, Any], arrays))


def require_agreement(before: StoredStatistics, action: DimStats, mode: str) -> None:
    """Raise CheckpointError when actions were normalised with other statistics than they are unnormalised with."""
    trained = before.get(ACTION, {})
    for name in NEEDED[mode]:
        if name not in trained or not np.array_equal(trained[name].ravel(), action.value(name)):
            raise odd(
                f"statistics of {ACTION} ({name})",
                f"the same in {PREPROCESSOR} and {POSTPROCESSOR}",
                f"{trained[name].ravel().tolist() if name in trained else 'none'} and {action.value(name).tolist()}",
            )


def note_zero_ranges(state: DimStats, action: DimStats, modes: Mapping[str, str], notes: list[str]) -> None:
    """Tell of dimensions whose smallest deviation LeRobot magnifies a hundred million times."""
    for kind, stats, mode in (("state", state, modes["STATE"]), ("action", action, modes["ACTION"])):
        if mode == "QUANTILES":
            flat = np.flatnonzero(stats.value("q01") == stats.value("q99")).tolist()
            if flat:
                notes.append(f"{kind} dimensions {flat} have q01 = q99: LeRobot, and so this policy, divides by 1e-8")


def odd(what: str, wanted: str, found: str) -> CheckpointError:
    """Return the error for what the folder says and this program, or LeRobot, cannot mean."""
    return CheckpointError(
        f"the folder's {what} cannot be read as a policy",
        wanted=wanted,
        found=found,
        remedy="copy or download the checkpoint again; if it is meant so, use LeRobot for this policy",
    )
