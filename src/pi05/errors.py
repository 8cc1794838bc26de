"""Errors that a user can cause, and how they read.

Every such error says what was wanted, what was found and what to do. The command line prints the three parts and exits
with code 2, without a traceback. Programming errors stay ordinary exceptions.
"""

from __future__ import annotations


class UserError(Exception):
    """Stop with a message that a user can act on.

    `problem` is one sentence in plain words, `wanted` and `found` are short values or sentences. `remedy` is the next
    thing to type or to change.
    """

    def __init__(self, problem: str, *, wanted: str | None = None, found: str | None = None, remedy: str) -> None:
        self.problem = problem
        self.wanted = wanted
        self.found = found
        self.remedy = remedy
        super().__init__(self.render())

    def render(self) -> str:
        """Return the message as up to four lines."""
        lines = [self.problem]
        if self.wanted is not None:
            lines.append(f"  wanted: {self.wanted}")
        if self.found is not None:
            lines.append(f"  found:  {self.found}")
        lines.append(f"  to do:  {self.remedy}")
        return "\n".join(lines)


class ConfigError(UserError):
    """A flag or a configuration value that cannot be."""


class DataError(UserError):
    """A data set that is broken, incomplete or not what the run needs."""


class CheckpointError(UserError):
    """A checkpoint that is missing, incomplete, or does not fit the model."""


class TrainingError(UserError):
    """A run that must stop: non-finite loss, no disk space, a device that is not there."""


class EvaluationError(UserError):
    """An evaluation that cannot be carried out as asked."""


class HubError(UserError):
    """A policy that cannot be published: no login, no permission, a name that cannot be, an upload that failed."""
