from __future__ import annotations

import jinja2
import pytest
from report_pages import parse_page

import pi05
from pi05.pages.page import fact_rows, render_page


def test_a_page_says_who_wrote_it_and_every_value_must_be_given() -> None:
    assert f"Written by pi05 {pi05.__version__} on " in parse_page(render_page("page.html")).text
    with pytest.raises(jinja2.UndefinedError, match="is undefined"):
        render_page("run.html")


def test_values_are_written_for_people() -> None:
    assert fact_rows({"a": {"b": 1, "c": None}, "d": {}}) == [("a.b", "1"), ("a.c", "–"), ("d", "{}")]
