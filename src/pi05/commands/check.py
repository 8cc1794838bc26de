"""`pi05 check`: is a data set sound, for the base and the recipe that it is trained with? No torch when imported."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pi05.commands.command import OFFLINE, Command
from pi05.commands.train import EXTRA_FLAGS, read_training_settings
from pi05.errors import ConfigError, DataError, doing, tell, visible
from pi05.settings.lerobot_flags import spellings
from pi05.settings.schema import Setting
from pi05.train.config import TrainConfig

if TYPE_CHECKING:
    from pi05.check.examine import Progress, Verdict
    from pi05.check.subject import Subject
    from pi05.finding import Finding

CHECK_FLAGS = (
    Setting("quick", bool, False, "Only what takes seconds and opens no picture: what pi05 train looks at by itself."),
    Setting(
        "fix",
        str | None,
        None,
        "New folder to write a repaired copy to, where a repair is safe; the data set itself is never changed.",
    ),
    Setting(
        "page_dir",
        str | None,
        None,
        "Folder for the page with findings, pictures and charts; runs/check-NAME when not given. None with --quick.",
    ),
    Setting("json", bool, False, "Print JSON."),
    Setting("sarif", str | None, None, "File to write the findings to as SARIF 2.1.0, for code hosts and editors."),
    Setting("junit", str | None, None, "File to write the findings to as JUnit XML, for pipelines."),
)


def check(arguments: Sequence[str]) -> int:
    """Run `pi05 check`."""
    request, asked = read_training_settings(arguments, CHECK_FLAGS, word="dataset.root")
    if request.config.dataset.root is None and request.config.dataset.repo_id is None:
        raise ConfigError(
            "no data set was given",
            wanted="pi05 check DATASET, a folder or OWNER/NAME of one on the hub",
            remedy="name it; flags of pi05 train tell how it will be trained on",
        )
    for notice in request.notices:
        tell(f"note: {notice}", aside=True)
    if asked["fix"] is not None:
        return _fix(request.config, asked)
    with _progress() as progress:
        seen = _look(request.config, asked, progress)
    _tell(seen.verdict, as_json=asked["json"], root=seen.root)
    _write(asked, seen)
    return int(bool(seen.verdict.refused))


def _fix(config: TrainConfig, asked: dict[str, Any]) -> int:
    """Write a repaired copy, and check that: what is told of it is what the repair has left."""
    root, out = _root(config), Path(asked["fix"])
    with _progress() as progress:
        progress(0, 1, "loading torch")
        from pi05.check.fix.account import render_account
        from pi05.check.fix.repair import repair

        account = repair(
            root,
            out,
            drop_cameras=config.drop_cameras,
            episodes=config.dataset.episodes,
            exclude_episodes=config.dataset.exclude_episodes or (),
            state=config.dataset.state,
            action=config.dataset.action,
            progress=lambda what, done, total: progress(done, total, what),
        )
        all_of_it = replace(config.dataset, repo_id=None, root=str(out), episodes=None, exclude_episodes=None)
        seen = _look(replace(config, dataset=all_of_it, drop_cameras=()), asked, progress)
    if not asked["json"]:
        print(visible(render_account(account, root, out)) + "\n")
    _tell(seen.verdict, as_json=asked["json"], root=out, repairs=account.to_dict())
    _write(asked, seen)
    return int(bool(seen.verdict.refused))


def _root(config: TrainConfig) -> str:
    return str(config.dataset.root or config.dataset.repo_id)


class _Seen(NamedTuple):
    """What was looked at, and what was found."""

    root: Path
    subject: Subject | None
    verdict: Verdict


def _look(config: TrainConfig, asked: dict[str, Any], progress: Progress) -> _Seen:
    """Open the data set and run the checks."""
    progress(0, 1, "loading torch")
    from pi05.check.examine import examine, judge
    from pi05.terminal import PlainConsole
    from pi05.train.checked.base_network import look_at_network
    from pi05.train.checked.subject import open_subject
    from pi05.train.records.sources import settle_sources

    config = settle_sources(config)
    root = Path(_root(config))
    if not root.is_dir():
        raise DataError(
            f"there is no data set at {root}",
            wanted="a folder that holds meta/info.json, or OWNER/NAME of one on the hub",
            found="a file" if root.exists() else "nothing",
            remedy="correct the path, or fetch the data set: pi05 fetch OWNER/NAME --repo-type=dataset",
        )
    progress(0, 1, "reading states, actions and tasks")
    subject, findings = open_subject(config, PlainConsole(stderr=True, quiet=True))
    if subject is not None:
        findings = [*findings, *examine(subject, quick=asked["quick"], progress=progress)]
    if subject is not None and not asked["quick"]:
        progress(0, 1, "the base's network")
        findings += look_at_network(config, subject)
    return _Seen(root, subject, judge(findings, config.allow))


def _write(asked: dict[str, Any], seen: _Seen) -> None:
    """Write what goes to files: once the findings are told, so that a full disk does not take them along."""
    from pi05.check.exchange import to_junit, to_sarif
    from pi05.files import write_atomic

    for name, convert in (("sarif", to_sarif), ("junit", to_junit)):
        if asked[name] is not None:
            with doing(f"write --{name}", asked[name], ConfigError):
                write_atomic(Path(asked[name]), convert(seen.verdict.findings, seen.root).encode())
    if asked["quick"]:
        return
    from pi05.check.page import write_page

    name = seen.root.resolve().name
    folder = Path(asked["page_dir"] or Path("runs") / f"check-{name}")
    with _progress() as progress, doing("write the page", folder, ConfigError):
        progress(0, 1, "the page")
        page = write_page(seen.subject, seen.verdict.findings, folder, name=name)
    tell(f"page: {page}", aside=asked["json"])


def _tell(verdict: Verdict, *, as_json: bool, root: Path, **facts: Any) -> None:
    from pi05.finding_report import for_terminal, render, to_json

    if as_json:
        errors = bool(verdict.refused)
        tell(to_json(verdict.findings, to_mend=errors, dataset=str(root), passed=list(verdict.passed), **facts))
        return
    width = max(60, min(120, shutil.get_terminal_size().columns))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    worst = ("error", "warning", "note", "ok")
    ordered = sorted(for_terminal(verdict.findings), key=lambda finding: worst.index(finding.status))
    print(render([replace(f, remedy=_with_allow(f)) for f in ordered], "check", width=width, colour=colour, names=True))


def _with_allow(finding: Finding) -> str:
    """Return the remedy, and of an error that training may pass over the flag that does."""
    from pi05.check.config import REFUSING

    if finding.status != "error" or finding.name not in REFUSING:
        return finding.remedy
    return f"{finding.remedy}; or train all the same: --allow={finding.name}"


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a bar on standard error where that is a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from pi05.terminal import PlainConsole

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = PlainConsole(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def hear(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total if total > 1 else None, description=visible(what))

        yield hear


COMMAND = Command(
    summary="Is a data set sound? What would make a run silently wrong.",
    usage="pi05 check DATASET [training flags] [--quick] [--fix=OUT] [--allow=NAME]",
    run=check,
    settings=TrainConfig,
    extra=(*CHECK_FLAGS, *EXTRA_FLAGS, OFFLINE),
    spellings=spellings,
)
