"""`pi05 report`: one HTML file about a run, or about several evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi05.commands.command import Command, read_words
from pi05.errors import ConfigError, doing, tell
from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Checked):
    """Settings of `pi05 report`."""

    output: str | None = None
    """Folder for the summary of several evaluations; their common parent when not given."""


def report(arguments: Sequence[str]) -> int:
    """Run `pi05 report`."""
    config, words = read_words(ReportConfig, arguments)
    if (words and all((Path(word) / "results.json").is_file() for word in words)) or len(words) > 1:
        return summarise(config, words)
    if len(words) != 1:
        raise ConfigError(
            "pi05 report takes one run, or evaluations",
            wanted="pi05 report RUN, or pi05 report EVALUATION EVALUATION …",
            remedy="name the run's folder",
        )
    if config.output is not None:
        raise ConfigError("--output is for evaluations", remedy="leave it out: the report lies in the run's folder")
    run = words[0]
    from pi05.pages.run import write_run_report

    with doing("write the report of", run):
        page = write_run_report(Path(run))
    tell(str(page))
    return 0


def summarise(config: ReportConfig, folders: Sequence[str]) -> int:
    """Write and print one table of several evaluations."""
    from pi05.eval.summary import write_summary

    with doing("write the summary of", folders[0]):
        text, page = write_summary(folders, config.output)
    tell(f"{text}\n{page}")
    return 0


COMMAND = Command(
    summary="One HTML file about a run, or about several evaluations.",
    usage="pi05 report RUN\n       pi05 report EVALUATION EVALUATION … [--output=FOLDER]",
    run=report,
    settings=ReportConfig,
)
