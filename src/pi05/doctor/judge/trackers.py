"""WandB and Trackio."""

from __future__ import annotations

from collections.abc import Iterator

from pi05.doctor.facts import Machine, Trackers
from pi05.doctor.remedies import install
from pi05.finding import Finding, note, ok, warning


def judge_trackers(facts: Trackers, machine: Machine) -> Iterator[Finding]:
    """Yield what is to be said about trackers; a run needs none."""
    yield _wandb(facts, machine)
    if not facts.trackio:
        yield note("trackio.absent", "not installed", "has no live dashboard of its own", install(machine, "trackio"))
    elif facts.trackio_space is not None and not facts.hub_token:
        yield warning(
            "trackio.login",
            f"TRACKIO_SPACE_ID={facts.trackio_space} names a space of the hub, and there is no login",
            "cannot send its metrics there",
            "hf auth login, or unset TRACKIO_SPACE_ID for a local dashboard",
        )
    else:
        where = "local" if facts.trackio_space is None else f"sends to the space {facts.trackio_space}"
        yield ok("trackio.ok", f"installed, {where}")


def _wandb(facts: Trackers, machine: Machine) -> Finding:
    if not facts.wandb:
        remedy = install(machine, "wandb>=0.19")
        return note("wandb.absent", "not installed", "with --wandb.enable=true is refused", remedy)
    if facts.wandb_mode in ("offline", "disabled"):
        return note("wandb.mode", f"WANDB_MODE={facts.wandb_mode}", "records metrics on this machine only")
    if facts.wandb_login is None:
        effect = "with --wandb.enable=true records offline"
        return note("wandb.login", f"installed, no login for {facts.wandb_host}", effect, "wandb login")
    answer = facts.wandb_answer
    if answer is not None and answer.fault is not None:
        return warning(
            "wandb.silent",
            f"{facts.wandb_host} cannot be reached: {answer.fault}",
            "with --wandb.enable=true waits 20 s at its start, then records offline",
            "pi05 train --wandb.mode=offline, and wandb sync later",
        )
    return ok("wandb.ok", f"login from {facts.wandb_login}")
