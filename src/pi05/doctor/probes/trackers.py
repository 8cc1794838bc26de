"""WandB and Trackio: installed, and able to log in? Keys are looked for, never read out."""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pi05.doctor.facts import Trackers
from pi05.doctor.probes.modules import has_module
from pi05.doctor.probes.web import Ask, ask_web

WANDB = "https://api.wandb.ai"


def probe_trackers(
    *,
    offline: bool = False,
    hub_token: bool = False,
    ask: Ask = ask_web,
    environment: Mapping[str, str] = os.environ,
    has_module: Callable[[str], bool] = has_module,
) -> Trackers:
    """Look for packages and logins; WandB's server is asked only where the package is installed and has a login."""
    address = (environment.get("WANDB_BASE_URL") or WANDB).rstrip("/")
    host = urlsplit(address).hostname or address
    login = _login(environment, host)
    installed, mode = has_module("wandb"), environment.get("WANDB_MODE")
    asked = installed and login is not None and mode not in ("offline", "disabled") and not offline
    return Trackers(
        wandb=installed,
        wandb_login=login,
        wandb_host=host,
        wandb_mode=mode,
        wandb_answer=ask(f"{address}/healthz") if asked else None,
        trackio=has_module("trackio"),
        trackio_space=environment.get("TRACKIO_SPACE_ID"),
        hub_token=hub_token,
    )


def _login(environment: Mapping[str, str], host: str) -> str | None:
    if environment.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    file = Path(environment.get("NETRC") or Path(environment.get("HOME", "/")) / ".netrc")
    try:
        return str(file) if netrc.netrc(str(file)).hosts.get(host) else None
    except (OSError, netrc.NetrcParseError):
        return None
