"""From values to one HTML file: the templates beside this module, and how numbers are written for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

import pi05
from pi05.pages.charts import number


def render_page(template: str, **values: Any) -> str:
    """Fill one of the templates beside this file."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = number
    environment.globals |= {"version": pi05.__version__, "written": datetime.now().strftime("%Y-%m-%d %H:%M")}
    return environment.get_template(template).render(**values)


def fact_rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested plain data as rows of dotted name and text."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += fact_rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "–" if value is None else str(value)))
    return rows
