"""The quick checks before a run trains: errors refuse it unless they are passed over by name, warnings are told.

Leaves out what is checked (`check/`), and of what (`subject.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from pi05.check.examine import Verdict, examine, judge
from pi05.errors import DataError
from pi05.finding import Finding
from pi05.model.config import ModelConfig
from pi05.terminal import say
from pi05.train.announce import announce_data
from pi05.train.checked.subject import base_of, subject_of
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData, cache_frames, prepare_data
from pi05.train.resume import OpenRun


def build_checked_data(
    config: TrainConfig, sizes: ModelConfig, console: Console, run: OpenRun
) -> tuple[TrainingData, Verdict]:
    """Prepare the data of a run, refuse them where the quick checks find an error, and only then decode pictures.

    A run that continues is not refused for what it has trained on already: it is warned. Raises DataError for errors
    that `--allow` does not name, and what preparing raises.
    """
    prepared = prepare_data(config, sizes, console, run)
    announce_data(config, prepared, console)
    subject = subject_of(config, sizes, prepared, base_of(config, sizes, run.base))
    verdict = judge(examine(subject, quick=True), config.allow)
    for finding in verdict.of("warning"):
        say(console, f"warning: {one_line(finding)}")
    if run.continues:
        for finding in verdict.refused:
            say(console, f"warning: {one_line(finding)}; a new run would be refused for it")
    elif verdict.refused:
        raise refusal(verdict.refused, str(config.dataset.root))
    return cache_frames(prepared, console), verdict


def one_line(finding: Finding) -> str:
    """Return a finding as one line: name, what was measured, what it does, what mends it."""
    return f"{finding.name}: {finding.text}; a run {finding.effect}; to do: {finding.remedy}"


def refusal(errors: Sequence[Finding], root: str) -> DataError:
    """Return the error that stops a run because of what its checks found."""
    names = list(dict.fromkeys(finding.name for finding in errors))
    told = "\n".join(
        f"  {finding.name}: {finding.text}\n    a run {finding.effect}\n    to do: {finding.remedy}"
        for finding in errors
    )
    return DataError(
        f"a run on this data set would go wrong: {root}\n{told}",
        wanted="no error among the checks of the data",
        found=", ".join(names),
        remedy=f"mend them (pi05 check {root} looks at pictures too), or pass over them on purpose: "
        f"--allow='[{', '.join(names)}]'",
    )
