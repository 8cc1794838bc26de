"""Hub or mirror, login, the gated tokenizer, proxies: asked with short limits, and not at all when offline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pi05.doctor.facts import Answer, Network
from pi05.doctor.hub_address import PUBLIC, TOKENIZER, is_address
from pi05.doctor.probes.modules import has_module
from pi05.doctor.probes.web import Ask, ask_web
from pi05.errors import visible
from pi05.sources.client import hub_address, offline_variable
from pi05.sources.names import PALIGEMMA, Source
from pi05.sources.places import Search, find_local

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def probe_network(
    *,
    offline: bool = False,
    ask: Ask = ask_web,
    environment: Mapping[str, str] = os.environ,
    has_module: Callable[[str], bool] = has_module,
) -> Network:
    """Ask the hub that a run would ask. What a run would find without it is looked up as a run does."""
    endpoint = hub_address(environment)
    hub_home = _hub_home(environment)
    token, source = _token(environment, hub_home)
    proxies = {
        name: visible(value) for name in (*PROXIES, *map(str.upper, PROXIES)) if (value := environment.get(name))
    }
    why = offline_variable(environment) or ("--offline" if offline else None)
    hub = login = tokenizer = directly = None
    if why is None and is_address(endpoint):
        hub = ask(f"{endpoint}/{PUBLIC}")
        if hub.fault is not None and any("no_proxy" not in name.lower() for name in proxies):
            directly = ask(f"{endpoint}/{PUBLIC}", directly=True)
        if hub.fault is None and token is not None:
            login = ask(f"{endpoint}/api/whoami-v2", token=token)
        if hub.fault is None:
            tokenizer = ask(f"{endpoint}/{TOKENIZER}", token=token, method="HEAD")
    return Network(
        offline=why,
        endpoint=visible(endpoint),
        client=has_module("huggingface_hub"),
        token=source,
        hub=hub,
        login=_name_only(login),
        tokenizer=tokenizer,
        local_tokenizer=find_tokenizer(),
        proxies=proxies,
        socks=not any("socks" in value for value in proxies.values()) or has_module("socksio"),
        directly=directly,
    )


def _name_only(login: Answer | None) -> Answer | None:
    """Keep of who one is the name and the kind of token: the answer has an address and more."""
    if login is None or not isinstance(login.data, dict):
        return login
    auth = login.data.get("auth") or {}
    role = (auth.get("accessToken") or {}).get("role") if isinstance(auth, dict) else None
    return Answer(status=login.status, page=login.page, data={"name": login.data.get("name"), "role": role})


def _hub_home(environment: Mapping[str, str]) -> Path:
    home = Path(environment.get("HOME", "/"))
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(environment.get("HF_HOME") or cache / "huggingface").expanduser()


def _token(environment: Mapping[str, str], hub_home: Path) -> tuple[str | None, str | None]:
    """Return the token and where it is from, in the order of the hub's client."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if value := environment.get(name, "").strip():
            return value, name
    file = Path(environment.get("HF_TOKEN_PATH") or hub_home / "token")
    try:
        value = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None, None
    return (value, str(file)) if value else (None, None)


def find_tokenizer() -> str | None:
    """Return where a run from the working directory would find PaliGemma's tokenizer without a connection."""
    found = find_local(Source(name=PALIGEMMA, kind="tokenizer"), None, Search())
    return None if found is None else str(found[0])
