"""All checks of states and actions, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator

from pi05.check.subject import Subject
from pi05.finding import Finding


def check_numbers(subject: Subject) -> Iterator[Finding]:
    """Yield what is found about states and actions."""
    yield from ()
