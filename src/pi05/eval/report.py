"""The folder and the page of an evaluation.

The page is one HTML file without network. Leaves out the drawing (`pages/`, `rate_charts.py`) and all judgement: a page
shows what was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pi05.checkpoint.locate import locate
from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.film import Film
from pi05.eval.peers import CAVEATS, PUBLISHED
from pi05.eval.rate_charts import rate_bars, rate_scale
from pi05.eval.records import HEADER, PARTIAL
from pi05.eval.result import EvalResult
from pi05.files import write_atomic, write_json
from pi05.pages.page import fact_rows, render_page
from pi05.pages.pictures import clip, strip
from pi05.sim.libero.protocols import protocol_named
from pi05.train.records.durations import duration

RESULTS, REPORT = "results.json", "report.html"


def output_folder(config: EvalConfig) -> Path:
    """Create and return the folder of an evaluation; one that holds results, or a part of them, is refused."""
    if config.resume:
        return _begun_folder(config)
    if config.output_dir is not None:
        folder = Path(config.output_dir)
        if (folder / RESULTS).exists():
            raise EvaluationError(
                "the output folder holds an evaluation already",
                found=str(folder / RESULTS),
                remedy="choose another --output_dir, or remove that folder",
            )
        if (folder / PARTIAL / HEADER).exists():
            raise EvaluationError(
                "the output folder holds an evaluation that was interrupted",
                found=str(folder / PARTIAL),
                remedy="go on with it: --resume; or choose another --output_dir, or remove that folder",
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return fresh_folder(_parent(config), f"eval-{config.env}")


def open_folder(config: EvalConfig, rank: int, size: int) -> Path:
    """Return the folder of an evaluation of `size` processes; the first one makes it."""
    if size > 1 and config.output_dir is None:
        raise EvaluationError(
            f"{size} processes share this evaluation and need to know where",
            wanted="--output_dir",
            remedy="add --output_dir=FOLDER, on a disk that all of them see",
        )
    return output_folder(config) if rank == 0 else Path(config.output_dir or "")


def _begun_folder(config: EvalConfig) -> Path:
    """Return the folder of the evaluation to go on with. Raises EvaluationError where there is none."""
    if config.output_dir is not None:
        folder = Path(config.output_dir)
        if not folder.exists() or not any(folder.iterdir()):  # a job that is queued anew begins as it goes on
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        candidates = [folder]
    else:
        candidates = sorted(_parent(config).glob(f"eval-{config.env}-*"), key=_number)
    begun = [folder for folder in candidates if (folder / PARTIAL / HEADER).exists()]
    if not begun:
        raise EvaluationError(
            "there is no interrupted evaluation to go on with",
            found=", ".join(map(str, candidates)) or f"no evaluation in {_parent(config)}",
            remedy="leave --resume out, or name the folder with --output_dir",
        )
    return begun[-1]


def _number(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _parent(config: EvalConfig) -> Path:
    run = None if config.policy.path is None else run_folder_of(config.policy.path)
    return run or Path("outputs")


def run_folder_of(path: str) -> Path | None:
    """Return the run that a policy is a checkpoint of; None where it is none of a run."""
    checkpoint = locate(path).folder
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None


def fresh_folder(parent: Path, name: str, first: int = 1) -> Path:
    """Create and return `parent/name-N` with the first N from `first` that is free."""
    for index in itertools.count(first):
        folder = parent / f"{name}-{index}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always a next number")


def write_evaluation(result: EvalResult, folder: Path) -> Path:
    """Write results.json and report.html into `folder` and return the path of the page."""
    page = folder / REPORT
    write_atomic(page, evaluation_page(result).encode())
    write_json(folder / RESULTS, result.to_dict())  # last: where it stands, all is there
    return page


def evaluation_page(result: EvalResult) -> str:
    """Return the page of an evaluation."""
    swapped = result.swapped_success
    frame_ms = 1000 / result.environment["fps"]
    if swapped is None:
        rates = [("success", result.success)]
    else:
        rates = [("reached the original goal", result.success), ("reached the goal that was asked for", swapped)]
    failures = film_cards(result.gallery.of("failure"), frame_ms)
    seeds = [episode.seed for episode in result.episodes]
    rate = result.success.value
    return render_page(
        "evaluation.html",
        result=result,
        swapped=swapped is not None,
        headline="no episode counts" if rate is None else f"{rate:.0%} success",
        rates=rates,
        charts=[rate_scale(rate) for _, rate in rates],
        tiles=[
            ("episodes that count", f"{len(result.counted)}"),
            ("simulator exceptions", f"{len(result.errors)}"),
            ("different first observations", f"{result.unique_starts}"),
            ("first and last seed", f"{min(seeds)} … {max(seeds)}"),
            ("wall time", duration(result.wall_s)),
        ],
        measured=_measured(result),
        protocol=protocol_rows(result.rules, result.environment.get("notes", ())),
        peers=peer_rows(result),
        caveats=CAVEATS,
        seen=result.seen,
        instruction_chart=rate_bars(list(result.by_instruction.items())),
        successes=film_cards(result.gallery.of("success"), frame_ms),
        failures=failures,
        heeded=failures,
        settings=fact_rows(result.config | {"environment": result.environment}),
        policy=fact_rows(result.policy),
        machine=fact_rows(result.machine),
    )


def _measured(result: EvalResult) -> list[tuple[str, str]]:
    """Return lengths, times and memory as rows of name and text."""
    rows = list(result.chunking_rows)
    if result.lengths:
        least, middle, most = (result.lengths[name] for name in ("least", "median", "most"))
        rows.append(("steps of a success", f"{least} to {most}, median {middle:g}"))
    if time := result.time:
        rows += [
            ("physics", f"{time['physics_ms_per_step']:.1f} ms per step"),
            ("rendering for the policy", f"{time['render_ms_per_look']:.1f} ms per look"),
            ("policy", f"{time['policy_ms_per_look']:.1f} ms per look (its share of a batch)"),
            ("reset", f"{time['reset_ms_per_episode'] / 1000:.2f} s per episode"),
            ("steps from look to look", f"{time['steps_per_look']:.1f}"),
        ]
    if result.memory_bytes:
        rows.append(("memory of an environment's process", f"{result.memory_bytes / 2**30:.2f} GiB"))
    if result.repeated:
        rows.append(("carried out once more after a failure of the simulator", f"{result.repeated} episodes"))
    return rows


def protocol_rows(rules: Mapping[str, Any], notes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the protocol, what flags set otherwise, and in what the other protocol differs; nothing without one."""
    name = rules.get("protocol")
    if name is None:
        return []
    own, other = protocol_named(name), protocol_named("lerobot" if name == "openpi" else "openpi")
    rows = [("protocol", f"{own.name}'s; in these {other.name}'s is another one")]
    rows += [(what, f"{here} ({other.name}: {other.differences[what]})") for what, here in own.differences.items()]
    rows += [("departs from the protocol", text) for text in rules["departures"] or ["nowhere"]]
    return rows + [("simulator", text) for text in notes]


def peer_rows(result: EvalResult) -> list[tuple[str, str]]:
    """Return this rate beside those that others published for the suite; nothing where there are none."""
    suite = result.environment["family"]
    rows = [(peer.who, peer.rate(suite)) for peer in PUBLISHED if suite in peer.percent]
    return [(who, rate.render()) for who, rate in [("this policy", result.success), *rows] if rate] if rows else []


def film_cards(films: Sequence[Film], frame_ms: float) -> list[dict[str, Any]]:
    """Return what the page shows of each film, played at the speed of the robot."""
    return [
        {
            "episode": film.episode,
            "strip": strip(film.frames),
            "clip": clip(film.frames, max(20, round(frame_ms * film.stride))),
        }
        for film in films
    ]
