"""`pi05 push`: publish a policy on the hub or a mirror."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi05.commands.command import Command, read_one_path
from pi05.errors import HubError, doing
from pi05.hub.config import PushConfig


def push(arguments: Sequence[str]) -> int:
    """Run `pi05 push`."""
    config, run = read_one_path(
        PushConfig,
        arguments,
        what="pi05 push takes one run",
        wanted="pi05 push RUN --repo_id=OWNER/NAME",
        remedy="name the run's folder",
    )
    from pi05.hub.publish import publish

    with doing("publish", run, HubError):
        publish(Path(run), config)
    return 0


COMMAND = Command(
    summary="Publish a policy on the hub or a mirror, in LeRobot's layout.",
    usage="pi05 push RUN --repo_id=OWNER/NAME [flags]",
    run=push,
    settings=PushConfig,
)
