"""Several evaluations as one table: `pi05 report FOLDER FOLDER …`, such as the four suites of LIBERO."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pi05.errors import EvaluationError
from pi05.eval.peers import CAVEATS, PUBLISHED
from pi05.eval.rate_charts import rate_bars
from pi05.eval.report import RESULTS
from pi05.eval.result import SuccessRate
from pi05.files import read_json, write_atomic, write_json
from pi05.pages.page import render_page

SUMMARY, PAGE = "summary.json", "summary.html"


def is_evaluation(folder: str | Path) -> bool:
    """Tell whether a folder holds a finished evaluation."""
    return (Path(folder) / RESULTS).is_file()


def write_summary(folders: Sequence[str], output: str | None = None) -> tuple[str, Path]:
    """Write summary.json and summary.html; return the table as text, and the page's path.

    `output` is the folder for them, the common parent when None. Raises EvaluationError for a folder without results.
    """
    missing = [folder for folder in folders if not is_evaluation(folder)]
    if missing:
        raise EvaluationError(
            "a folder holds no finished evaluation",
            wanted=f"{RESULTS} in each",
            found=", ".join(missing),
            remedy="name the folders that pi05 eval has written; one that was interrupted goes on with --resume",
        )
    rows = [_row(folder, read_json(Path(folder) / RESULTS)) for folder in folders]
    place = Path(output) if output is not None else _parent(folders)
    values = {
        "format": "pi05-summary",
        "format_version": 1,
        "evaluations": rows,
        "mean_rate": mean_rate(rows),
        "published": published(rows),
    }
    rates = [(row["what"], _rate(row)) for row in rows]
    text = render(rows)
    page = render_page("summary.html", rows=rows, chart=rate_bars(rates), text=text, caveats=_caveats(rows))
    write_atomic(place / PAGE, page.encode())
    write_json(place / SUMMARY, values)
    return text, place / PAGE


def _parent(folders: Sequence[str]) -> Path:
    return Path(os.path.commonpath([Path(folder).absolute().parent for folder in folders]))


def _row(folder: str, result: Mapping[str, Any]) -> dict[str, Any]:
    about, rules = result["environment"], result.get("rules", {})
    return {
        "folder": folder,
        "what": f"{about['name']}/{about['family']}" if about["name"] != about["family"] else about["name"],
        "family": about["family"],
        "policy": result["policy"]["path"],
        "step": result["policy"].get("step"),
        "protocol": rules.get("protocol"),
        "departures": rules.get("departures", []),
        "success": result["success"],
        "simulator_exceptions": result["simulator_exceptions"],
        "wall_s": result["wall_s"],
    }


def _rate(row: Mapping[str, Any]) -> SuccessRate:
    return SuccessRate(successes=row["success"]["successes"], trials=row["success"]["trials"])


def mean_rate(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the plain mean over the evaluations, as the peers' tables have it; None where one has no rate."""
    rates = [_rate(row).value for row in rows]
    return None if None in rates else sum(rate for rate in rates if rate is not None) / len(rates)


def published(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the others' rates (%) in the order of the rows, of those who have published one for each."""
    return {
        peer.who: [peer.percent[row["family"]] for row in rows]
        for peer in PUBLISHED
        if all(row["family"] in peer.percent for row in rows)
    }


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table."""
    lines = [f"  {row['what']:<28}{_rate(row).render()}{_remark(row)}" for row in rows]
    mean = mean_rate(rows)
    if mean is not None and len(rows) > 1:
        lines.append(f"  {'mean':<28}{mean:.1%}")
    for who, percent in published(rows).items():
        told = ", ".join(f"{value:.1f}" for value in percent)
        lines.append(f"  {'published by ' + who:<28}{told}; mean {sum(percent) / len(percent):.2f} %")
    return "\n".join(lines)


def _remark(row: Mapping[str, Any]) -> str:
    errors = f", {row['simulator_exceptions']} simulator exceptions" if row["simulator_exceptions"] else ""
    if row["protocol"] is None:
        return errors
    departs = f", departs in {len(row['departures'])}" if row["departures"] else ""
    return f"{errors}; protocol {row['protocol']}{departs}"


def _caveats(rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    return CAVEATS if published(rows) else ()
